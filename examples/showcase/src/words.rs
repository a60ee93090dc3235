//! Times and amounts in words.

use rocket_mongo_session::time::{Duration, OffsetDateTime};

/// `€ 12.50`
pub fn price(cents: u32) -> String {
    format!("€ {}.{:02}", cents / 100, cents % 100)
}

/// `1 device`, `2 devices`
pub fn count(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// `5 minutes ago`
pub fn ago(then: OffsetDateTime, now: OffsetDateTime) -> String {
    let passed = about(now - then);
    if passed.is_empty() {
        "just now".to_owned()
    } else {
        format!("{passed} ago")
    }
}

/// `in 20 minutes`
pub fn ahead(then: OffsetDateTime, now: OffsetDateTime) -> String {
    let left = about(then - now);
    if left.is_empty() {
        "in less than a minute".to_owned()
    } else {
        format!("in {left}")
    }
}

/// Returns a duration in its largest unit, rounded. `None` below a minute.
fn about(duration: Duration) -> String {
    let minutes = u64::try_from(duration.whole_minutes()).unwrap_or(0);
    match minutes {
        0 => String::new(),
        1..60 => count(minutes, "minute"),
        60..1440 => count((minutes + 30) / 60, "hour"),
        _ => count((minutes + 720) / 1440, "day"),
    }
}

/// `2026-03-05T09:30:00Z`, for the attribute of a `time` element.
pub fn machine(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_hms();
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", time.date())
}

/// `5 March, 09:30 UTC`
pub fn moment(time: OffsetDateTime) -> String {
    let (hour, minute, _) = time.to_hms();
    format!("{} {}, {hour:02}:{minute:02} UTC", time.day(), time.month())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_largest_unit_that_fits() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(400);
        let told = |seconds| ago(now - Duration::seconds(seconds), now);
        assert_eq!(told(-5), "just now");
        assert_eq!(told(59), "just now");
        assert_eq!(told(60), "1 minute ago");
        assert_eq!(told(5399), "1 hour ago");
        assert_eq!(told(7199), "2 hours ago");
        assert_eq!(told(172_800), "2 days ago");
        assert_eq!(ahead(now + Duration::seconds(1200), now), "in 20 minutes");
    }

    #[test]
    fn cents_keep_their_zero() {
        assert_eq!(price(705), "€ 7.05");
    }
}
