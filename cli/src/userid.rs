//! The user of `--user`: what the application's login was given, as a value and not as text.

use std::str::FromStr;

use rocket_mongo_session::mongodb::bson::Bson;
use serde_json::Value;

/// A user as the command line names it: JSON, and text where it is not JSON.
///
/// `7` is a number and `"7"` a text. What only BSON can express is MongoDB's Extended JSON, as in
/// `{"$oid": "…"}`.
#[derive(Clone, Debug, PartialEq)]
pub struct UserId {
    pub value: Bson,
    pub text: String,
}

impl FromStr for UserId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = match serde_json::from_str::<Value>(text) {
            Ok(Value::Null) => return Err("null is not a user".to_owned()),
            Ok(value) => Bson::try_from(value).map_err(|error| error.to_string())?,
            Err(_) => Bson::String(text.to_owned()),
        };
        let text = text.to_owned();
        Ok(UserId { value, text })
    }
}

impl UserId {
    /// What to try where a user has no session: the same characters may be of another type.
    pub fn hint(&self) -> Option<String> {
        match &self.value {
            Bson::String(_) => None,
            _ => Some(format!(
                "{} was taken for JSON; a user that is this text is --user '{}'",
                self.text,
                Value::String(self.text.clone())
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Bson {
        text.parse::<UserId>().expect("a user").value
    }

    #[test]
    fn user_is_json_or_text() {
        assert_eq!(parsed("alice"), Bson::from("alice"));
        assert_eq!(parsed("\"7\""), Bson::from("7"));
        assert!(matches!(parsed("7"), Bson::Int32(7) | Bson::Int64(7)));
        assert!(matches!(
            parsed(r#"{"$oid": "0123456789abcdef01234567"}"#),
            Bson::ObjectId(_)
        ));
        assert!("null".parse::<UserId>().is_err());
    }

    #[test]
    fn user_of_another_type_gets_a_hint() {
        let hint = |text: &str| text.parse::<UserId>().expect("a user").hint();
        assert!(hint("7").is_some_and(|hint| hint.contains("--user '\"7\"'")));
        assert_eq!(hint("alice"), None);
    }
}
