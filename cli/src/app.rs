//! The application's configuration: its Rocket.toml, profile and environment.

use std::path::PathBuf;

use rocket::figment::Figment;
use rocket::figment::providers::{Env, Format, Toml};
use rocket_mongo_session::Sessions;

use crate::args::Place;
use crate::failure::Failure;

const URL_KEY: &str = "databases.sessions.url";

pub struct App {
    figment: Figment,
    kind: Option<String>,
}

impl App {
    /// Reads what `rocket::build()` of the application reads: the file, and `ROCKET_` variables.
    pub fn read(place: &Place) -> Result<Self, Failure> {
        if let Some(path) = &place.config
            && !path.is_file()
        {
            let text = format!("--config: {} is not a file", path.display());
            return Err(Failure::Configuration(text));
        }
        let path = place
            .config
            .clone()
            .unwrap_or_else(|| PathBuf::from("Rocket.toml"));
        let figment = Figment::from(rocket::Config::release_default())
            .merge(Toml::file(path).nested())
            .merge(
                Env::prefixed("ROCKET_")
                    .ignore(&["PROFILE", "CONFIG"])
                    .global(),
            )
            .select(place.profile.as_str());
        if let Some(kind) = &place.kind
            && figment.find_value(&format!("session_{kind}")).is_err()
        {
            eprintln!(
                "note: the configuration has no [default.session_{kind}]; its defaults are used"
            );
        }
        Ok(App {
            figment,
            kind: place.kind.clone(),
        })
    }

    pub async fn sessions(&self) -> Result<Sessions, Failure> {
        Ok(match &self.kind {
            Some(kind) => Sessions::connect_kind(&self.figment, kind).await?,
            None => Sessions::connect(&self.figment).await?,
        })
    }

    /// Returns the address of the database.
    pub fn url(&self) -> Result<String, Failure> {
        self.figment.extract_inner(URL_KEY).map_err(|_| {
            Failure::Configuration(format!(
                "`{URL_KEY}` is missing in the {} profile of Rocket.toml; name a URL, or the file with \
                 --config",
                self.figment.profile()
            ))
        })
    }

    /// Returns a key of the section of the sessions.
    fn key(&self, key: &str) -> Option<String> {
        self.figment
            .extract_inner(&format!("{}.{key}", self.section()))
            .ok()
    }

    fn section(&self) -> String {
        match &self.kind {
            Some(kind) => format!("session_{kind}"),
            None => "session".to_owned(),
        }
    }

    /// Returns the name of the collection, and of its database if the section names one.
    pub fn collection(&self) -> (Option<String>, String) {
        let collection = self.key("collection").unwrap_or_else(|| self.section());
        (self.key("database"), collection)
    }
}
