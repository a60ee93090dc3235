//! How long an operation waits for the end of a command before the next one starts.

use std::time::Duration;

/// The shortest wait that a timer ends. Below it the end of a command comes first anyway.
pub(super) const MIN_PATIENCE: Duration = Duration::from_millis(5);

/// A command that takes longer hangs: its time is neither distance nor work, and must not make the
/// next operations wait beyond their deadline.
const MAX_NOTED: Duration = Duration::from_secs(1);

/// How long commands take, and from that how long an operation should wait for the end of one.
///
/// The least that a command takes is distance (to the server, to a majority): waiting for it saves
/// nothing, since the next command could travel beside it. The time that commands usually take beyond
/// it is work, on processors that the next command would share: waiting for it costs nothing.
#[derive(Default)]
pub(super) struct Pace {
    pub(super) usual: Duration,
    pub(super) least: Duration,
}

impl Pace {
    pub(super) fn note(&mut self, took: Duration) {
        let took = took.min(MAX_NOTED);
        if self.usual.is_zero() {
            (self.usual, self.least) = (took, took);
        }
        self.usual = (self.usual * 7 + took) / 8;
        // The least duration rises again, by a sixteenth at most: the network of an hour ago may not
        // be that of now.
        self.least = took.min(self.least + self.least / 16);
    }

    pub(super) fn patience(&self) -> Duration {
        let work = self.usual.saturating_sub(self.least);
        (work * 2 + self.least / 8).max(MIN_PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_short_where_commands_are_far_and_long_where_they_are_work() {
        let millis = Duration::from_millis;
        let mut far = Pace::default();
        let mut busy = Pace::default();
        for round in 0..100 {
            far.note(millis(100 + round % 3));
            busy.note(millis(if round % 2 == 0 { 2 } else { 16 }));
        }
        assert!(far.patience() < millis(25), "{:?}", far.patience());
        assert!(busy.patience() > millis(10), "{:?}", busy.patience());
        assert_eq!(Pace::default().patience(), MIN_PATIENCE);
    }

    #[test]
    fn patience_survives_a_command_that_hangs() {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let mut usual = Pace::default();
        usual.note(Duration::from_millis(2));
        for pace in [&mut Pace::default(), &mut usual] {
            pace.note(hour);
            assert!(pace.patience() < second, "{:?}", pace.patience());
            (0..100).for_each(|_| pace.note(hour));
            assert!(pace.patience() <= 2 * second, "{:?}", pace.patience());
        }
    }
}
