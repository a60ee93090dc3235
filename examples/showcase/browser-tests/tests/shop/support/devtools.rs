//! What WebDriver has no command for, and Chromium's developer tools have.

use fantoccini::wd::WebDriverCompatibleCommand;
use http::Method;
use rocket::serde::json::{Value, json};
use url::{ParseError, Url};

#[derive(Debug)]
pub struct Devtools {
    pub command: &'static str,
    pub params: Value,
}

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.expect("a browser is open");
        base.join(&format!("session/{session}/goog/cdp/execute"))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.command, "params": self.params });
        (Method::POST, Some(body.to_string()))
    }
}
