//! A Chromium on this machine, held by a chromedriver of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use fantoccini::ClientBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use rocket::serde::json::{Value, json};

use super::browser::Browser;
use super::group::Group;
use super::shop::Shop;

/// What the browser runs on.
#[derive(Clone, Copy)]
pub enum Screen {
    Desk,
    Phone,
    /// As wide as `Browser::resize` makes it.
    Any,
}

/// Where browsers come from. They all end with it.
pub struct Chromium {
    driver: Option<Group>,
    port: u16,
    profiles: Vec<PathBuf>,
}

impl Chromium {
    pub fn start() -> Chromium {
        // It looks for a free port and may lose it before it listens there: then it ends, and is
        // started once more.
        const ATTEMPTS: u32 = 5;
        let mut said = String::new();
        for _ in 0..ATTEMPTS {
            match driver() {
                Ok((driver, port)) => {
                    return Chromium {
                        driver: Some(driver),
                        port,
                        profiles: Vec::new(),
                    };
                }
                Err(words) => said = words,
            }
        }
        panic!(
            "no chromedriver (Debian: `apt-get install chromium chromium-driver`); it said: {said}"
        );
    }

    /// A browser that has never been anywhere, at the shop's door.
    pub async fn open(&mut self, shop: &Shop, screen: Screen) -> Browser {
        self.open_at(&shop.address(), screen).await
    }

    /// The same at the shop of another process.
    pub async fn open_at(&mut self, shop: &str, screen: Screen) -> Browser {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let profile = format!("showcase-chromium-{}-{count}", std::process::id());
        let profile = std::env::temp_dir().join(profile);
        self.profiles.push(profile.clone());
        self.run(&profile, shop, screen).await
    }

    /// Closes a browser and opens it again, with what it kept of its life so far.
    pub async fn reopen(&mut self, browser: Browser, shop: &Shop, screen: Screen) -> Browser {
        let profile = browser.close().await;
        self.run(&profile, &shop.address(), screen).await
    }

    async fn run(&self, profile: &Path, shop: &str, screen: Screen) -> Browser {
        let mut args: Vec<String> = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-breakpad",
            "--disable-crash-reporter",
            "--hide-scrollbars",
            "--password-store=basic",
            "--lang=en",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!("--user-data-dir={}", profile.display()));
        let mut options = json!({ "args": args });
        if let Some(device) = screen.emulated() {
            options["mobileEmulation"] = device;
        }
        if let Ok(binary) = std::env::var("CHROMIUM") {
            options["binary"] = binary.into();
        }
        let capabilities = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("it is an object");
        };
        let driver = format!("http://127.0.0.1:{}", self.port);
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver)
            .await
            .expect("chromedriver starts a Chromium");
        let browser = Browser::new(client, profile.to_owned(), shop.to_owned());
        browser.visit("/").await;
        browser
    }
}

/// A chromedriver and its port, or what it said before it ended.
fn driver() -> Result<(Group, u16), String> {
    let program = std::env::var_os("CHROMEDRIVER").unwrap_or_else(|| "chromedriver".into());
    let mut driver = Group::start(program, &["--port=0".to_owned()]);
    let mut said = String::new();
    for line in BufReader::new(driver.stdout())
        .lines()
        .map_while(Result::ok)
    {
        if let Some((_, port)) = line.split_once("started successfully on port ")
            && let Ok(port) = port.trim_end_matches('.').parse()
        {
            return Ok((driver, port));
        }
        said += &line;
        said.push('\n');
    }
    Err(said)
}

impl Screen {
    fn emulated(self) -> Option<Value> {
        Some(match self {
            Screen::Any => return None,
            Screen::Desk => json!({
                "deviceMetrics": { "width": 1180, "height": 820, "pixelRatio": 1.0, "mobile": false, "touch": false },
                "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
            }),
            Screen::Phone => json!({
                "deviceMetrics": { "width": 390, "height": 844, "pixelRatio": 1.5, "mobile": true, "touch": true },
                "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
            }),
        })
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        self.driver.take();
        for profile in &self.profiles {
            let _ = std::fs::remove_dir_all(profile);
        }
    }
}
