//! One browser, and what a customer does with it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fantoccini::cookies::Cookie;
use fantoccini::elements::Element;
use fantoccini::{Client, Locator};
use rocket::serde::json::{Value, json};
use rocket::tokio::time::sleep;

use super::devtools::Devtools;
use super::{PASSWORD, Shop};

pub struct Browser {
    client: Client,
    profile: PathBuf,
    shop: String,
}

/// Far longer than any page takes to load.
const PATIENCE: Duration = Duration::from_secs(60);

impl Browser {
    pub fn new(client: Client, profile: PathBuf, shop: String) -> Browser {
        Browser {
            client,
            profile,
            shop,
        }
    }

    /// The same browser, when the shop has moved to another port.
    pub fn at(self, shop: &Shop) -> Browser {
        Browser::new(self.client, self.profile, shop.address())
    }

    /// Closes it; where it kept what it knew.
    pub async fn close(self) -> PathBuf {
        let lock = self.profile.join("SingletonLock");
        self.client.clone().close().await.expect("it closes");
        // The next one to open the profile has to find it free. (The lock is a dangling link.)
        self.wait_until(true, async || lock.symlink_metadata().is_err())
            .await;
        self.profile
    }

    /// A page of the shop's, by its path, or any other by its whole address.
    pub async fn visit(&self, path: &str) {
        let address = if path.starts_with('/') {
            format!("{}{path}", self.shop)
        } else {
            path.to_owned()
        };
        self.client.goto(&address).await.expect(path);
    }

    /// Where it is now.
    pub async fn path(&self) -> String {
        let address = self.client.current_url().await.expect("an address");
        address.path().to_owned()
    }

    pub async fn find(&self, css: &str) -> Element {
        match self.client.find(Locator::Css(css)).await {
            Ok(element) => element,
            Err(_) => panic!("no {css} on {}:\n{}", self.path().await, self.body().await),
        }
    }

    /// A number of the administrator's page.
    pub async fn stat(&self, name: &str) -> u64 {
        let path = format!("//dt[starts-with(normalize-space(), '{name} ')]/following-sibling::dd");
        let number = self.client.find(Locator::XPath(&path)).await.expect(name);
        let number = number.text().await.expect(name);
        number.parse().expect("a number")
    }

    pub async fn texts(&self, css: &str) -> Vec<String> {
        loop {
            let mut texts = Vec::new();
            let elements = self.client.find_all(Locator::Css(css)).await.expect(css);
            let count = elements.len();
            for element in elements {
                texts.extend(element.text().await.ok());
            }
            // The page may have changed by itself meanwhile.
            if texts.len() == count {
                return texts;
            }
        }
    }

    /// The page as a customer reads it.
    pub async fn body(&self) -> String {
        let body = self.client.find(Locator::Css("body")).await;
        body.expect("a body").text().await.expect("its text")
    }

    pub async fn heading(&self) -> String {
        self.texts("h1").await.join(" / ")
    }

    pub async fn notices(&self) -> Vec<String> {
        self.texts(".notice").await
    }

    pub async fn devices(&self) -> Vec<String> {
        self.texts(".device h3").await
    }

    /// How many teas the page's head says are in the basket.
    pub async fn basket(&self) -> Option<String> {
        self.texts("#basket-count").await.pop()
    }

    /// Clicks what a form or a link says, or is labelled with, and waits for the next page.
    pub async fn press(&self, words: &str) {
        let element = self.saying("button", words).await;
        self.leave_by(element).await;
    }

    /// The same with the one button of a page's one form.
    pub async fn press_submit(&self) {
        let button = self.find("main form button").await;
        self.leave_by(button).await;
    }

    /// Opens what is folded away.
    pub async fn unfold(&self, words: &str) {
        let summary = self.saying("summary", words).await;
        summary.click().await.expect(words);
    }

    async fn saying(&self, element: &str, words: &str) -> Element {
        let path = format!(
            "//*[self::{element} or self::a][normalize-space()='{words}' or @aria-label='{words}' \
             or starts-with(@aria-label, '{words},')]"
        );
        match self.client.find(Locator::XPath(&path)).await {
            Ok(element) => element,
            Err(_) => panic!(
                "nothing says {words:?} on {}:\n{}",
                self.path().await,
                self.body().await
            ),
        }
    }

    /// Waits for the next page. A click returns before its response arrives, so wait until the page has
    /// another root element.
    async fn leave_by(&self, element: Element) {
        let page = self.find("html").await;
        element.click().await.expect("a click");
        self.wait_until(true, async || page.tag_name().await.is_err())
            .await;
    }

    pub async fn fill(&self, field: &str, text: &str) {
        let input = self.find(&format!("input[name={field}]")).await;
        input.clear().await.expect(field);
        input.send_keys(text).await.expect(field);
    }

    pub async fn sign_up(&self, name: &str) {
        self.send_sign_up(name).await;
        assert_eq!(self.notices().await, [format!("Welcome, {name}.")]);
    }

    pub async fn send_sign_up(&self, name: &str) {
        if self.path().await != "/sign-up" {
            self.visit("/sign-up").await;
        }
        self.fill("name", name).await;
        self.fill("password", PASSWORD).await;
        self.press_submit().await;
    }

    pub async fn sign_in(&self, name: &str) {
        self.send_sign_in(name, PASSWORD).await;
        assert_eq!(self.notices().await, [format!("Welcome back, {name}.")]);
    }

    pub async fn sign_in_as_admin(&self) {
        self.send_sign_in("admin", "let it steep").await;
        assert_eq!(self.notices().await, ["Welcome back, admin."]);
    }

    /// On the page that asks for it, or wherever the browser is.
    pub async fn send_sign_in(&self, name: &str, password: &str) {
        if self.path().await != "/sign-in" {
            self.visit("/sign-in").await;
        }
        self.fill("name", name).await;
        self.fill("password", password).await;
        self.press_submit().await;
    }

    /// What is typed into a field.
    pub async fn typed(&self, field: &str) -> Value {
        let typed = format!("return document.querySelector('input[name={field}]').value");
        self.script(&typed).await
    }

    /// The fields that are to be corrected, and say why.
    pub async fn marked(&self) -> Value {
        let marked = "return [...document.querySelectorAll('[aria-invalid=true]')]\
                      .filter(field => document.getElementById(field.getAttribute(\
                      'aria-describedby').trim()).role === 'alert').map(field => field.name)";
        self.script(marked).await
    }

    pub async fn tick(&self, field: &str) {
        let input = self.find(&format!("input[name={field}]")).await;
        input.click().await.expect(field);
    }

    pub async fn is_signed_in(&self) -> bool {
        self.visit("/account").await;
        let path = self.path().await;
        assert!(
            ["/account", "/sign-in"].contains(&path.as_str()),
            "{}",
            self.body().await
        );
        path == "/account"
    }

    /// The session's cookie, as this browser keeps it.
    pub async fn cookie(&self) -> Option<Cookie<'static>> {
        self.cookie_named("session").await
    }

    pub async fn cookie_named(&self, name: &str) -> Option<Cookie<'static>> {
        self.client.get_named_cookie(name).await.ok()
    }

    /// Runs a script in the page, as its devtools would: the page itself may run none.
    pub async fn script(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.expect(script)
    }

    /// Looks at the page on another screen, by day or by night.
    pub async fn resize(&self, width: u32, is_dark: bool) {
        let metrics = json!({
            "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await;
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
        let seen = "return [innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]";
        self.wait_until(json!([width, is_dark]), async || self.script(seen).await)
            .await;
    }

    async fn devtools(&self, command: &'static str, params: Value) {
        let command = Devtools { command, params };
        let done = self.client.issue_cmd(command).await;
        done.expect("chromedriver passes it on");
    }

    pub async fn screenshot(&self) -> Vec<u8> {
        self.client.screenshot().await.expect("a picture")
    }

    /// The address of its shop.
    pub fn shop(&self) -> String {
        self.shop.clone()
    }

    /// Marks the page, which a page that is loaded again is not.
    pub async fn mark(&self) {
        self.script("window.isMarked = true").await;
    }

    pub async fn is_marked(&self) -> bool {
        self.script("return window.isMarked === true").await == true
    }

    /// From now on no page runs a script of its own.
    pub async fn forbid_scripts(&self) {
        let params = json!({ "value": true });
        self.devtools("Emulation.setScriptExecutionDisabled", params)
            .await;
    }

    /// Looks until it sees what it hopes for.
    pub async fn wait_until<T: Debug + PartialEq>(&self, hoped: T, look: impl AsyncFnMut() -> T) {
        self.wait_at_most(PATIENCE, hoped, look).await;
    }

    /// The same, for what is to happen soon.
    pub async fn wait_at_most<T: Debug + PartialEq>(
        &self,
        limit: Duration,
        hoped: T,
        mut look: impl AsyncFnMut() -> T,
    ) {
        let end = Instant::now() + limit;
        loop {
            let seen = look().await;
            if seen == hoped {
                return;
            }
            assert!(Instant::now() < end, "{seen:?}, and never {hoped:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}
