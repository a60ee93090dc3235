//! The arguments.

use std::net::IpAddr;
use std::path::PathBuf;

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use clap::{ArgAction, Parser, Subcommand};
use clap_complete::Shell;
use rocket_mongo_session::Query;
use rocket_mongo_session::time::{Duration, OffsetDateTime};

use crate::failure::EXIT_CODES;
use crate::userid::UserId;

const EXAMPLES: &str = "\
Examples:
  rocket-mongo-session doctor                            tries the deployment of the application
  rocket-mongo-session list --user alice                 where alice is signed in
  rocket-mongo-session revoke --user alice --dry-run     what would end
  rocket-mongo-session revoke --user alice               ends it, after a question
  rocket-mongo-session revoke --idle 30d --client MSIE   ends what both conditions choose";

/// Lists, ends and exports the sessions of a Rocket application, and checks that its MongoDB deployment
/// meets what sessions need.
///
/// It reads the application's own configuration: Rocket.toml in this folder or above it, the
/// profile, and ROCKET_ variables. It shows neither tokens nor CSRF secrets, and values of sessions
/// only with `show --values` and `export`.
#[derive(Parser)]
#[command(
    name = "rocket-mongo-session",
    version,
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}")
)]
pub struct Args {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

/// Which application.
#[derive(clap::Args)]
pub struct Place {
    /// The application's configuration instead of ./Rocket.toml.
    #[arg(long, global = true, value_name = "PATH", env = "ROCKET_CONFIG")]
    pub config: Option<PathBuf>,
    /// The profile of the configuration.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "ROCKET_PROFILE",
        default_value = "release"
    )]
    pub profile: String,
    /// A further kind of session: the one of [default.session_NAME].
    #[arg(long, global = true, value_name = "NAME")]
    pub kind: Option<String>,
    /// Prints JSON: one object, or one on each line for lists.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Tries what the sessions need of a deployment, in scratch collections that it removes.
    ///
    /// It takes two minutes at most: a server deletes expired documents once a minute. It needs the
    /// role readWrite on the URL's database, and says which privilege is missing otherwise. Exit code
    /// 1 when a promise is broken, 2 when it cannot connect or had no time for a check.
    Doctor(Doctor),
    /// Lists live sessions.
    List(List),
    /// Shows one session.
    Show {
        /// The session's public id; behind `--` if it begins with a hyphen.
        id: String,
        /// Shows its values and flash messages, too. They are the user's data.
        #[arg(long)]
        values: bool,
    },
    /// Counts live sessions.
    Count {
        #[command(flatten)]
        filter: Filter,
        /// About how many, in constant time: the collection's own number, expired ones included.
        #[arg(long)]
        estimate: bool,
    },
    /// Ends sessions: those with these ids, or those that a filter chooses.
    ///
    /// A filtered end goes in batches of 1000. After Ctrl-C the same command ends the rest. With
    /// --user alone, logins of the user in progress end, too.
    Revoke(Revoke),
    /// Ends every session of the application (mass logout), logins in progress included.
    RevokeAll(Ending),
    /// Deletes expired sessions now, which the server does by itself some minutes later.
    Purge {
        /// Says how many would be deleted, and deletes none.
        #[arg(long)]
        dry_run: bool,
    },
    /// Creates or repairs the indexes of the collection.
    Indexes {
        /// Compares the indexes with what is needed, and changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Writes everything that is stored of a user's live sessions, without secrets (GDPR, article 15).
    Export {
        #[command(flatten)]
        user: User,
        /// Writes to a new file instead of stdout.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Ends every session of a user and so deletes what they hold (GDPR, article 17).
    Erase {
        #[command(flatten)]
        user: User,
        #[command(flatten)]
        ending: Ending,
    },
    /// Prints what happens to sessions, until Ctrl-C. It needs a replica set or a sharded cluster.
    Watch {
        /// Only events of this user.
        #[arg(long, value_name = "USER", allow_negative_numbers = true)]
        user: Option<UserId>,
    },
    /// Prints a completion script of a shell.
    Completions { shell: Shell },
}

#[derive(clap::Args)]
pub struct Doctor {
    /// The database; by default the application's own. It has to name a database, which may be empty.
    pub url: Option<String>,
    /// Prints Markdown.
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Does not wait for the server to delete an expired document, which takes up to a minute.
    #[arg(long)]
    pub quick: bool,
    /// Only these checks, by their names in the report.
    #[arg(long, value_name = "CHECK")]
    pub only: Vec<String>,
    /// After this many seconds it leaves out what was not tried: with the removal it is two minutes.
    #[arg(long, hide = true, default_value_t = 105)]
    pub limit: u32,
    /// How long it waits for the server to delete an expired document, in seconds.
    #[arg(long, hide = true, default_value_t = 95)]
    pub ttl_patience: u64,
}

#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    pub filter: Filter,
    /// How many sessions to list.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,
    /// Lists all of them.
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    /// Continues where a list ended, with the cursor that it printed.
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    pub after: Option<String>,
}

#[derive(clap::Args)]
pub struct Revoke {
    /// Public ids of sessions; behind `--` where one begins with a hyphen.
    pub ids: Vec<String>,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub ending: Ending,
}

#[derive(clap::Args)]
pub struct Ending {
    /// Shows which live sessions would end, and ends none.
    #[arg(long)]
    pub dry_run: bool,
    /// Does not ask before it ends them.
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(clap::Args)]
pub struct User {
    /// The user that the login was given: JSON (7, "7", {"$oid": "…"}), and text where it is not JSON.
    #[arg(long, value_name = "USER", allow_negative_numbers = true)]
    pub user: UserId,
}

/// Which sessions. All conditions have to hold.
///
/// A TIME is 2026-11-01, "2026-11-01 14:30" (local time), or RFC 3339. An AGE is 90m, 12h, 30d.
#[derive(clap::Args, Clone, Default, PartialEq)]
pub struct Filter {
    /// The user that the login was given: JSON (7, "7", {"$oid": "…"}), and text where it is not JSON.
    #[arg(long, value_name = "USER", allow_negative_numbers = true)]
    pub user: Option<UserId>,
    /// Not used for this long: 90m, 12h, 30d.
    #[arg(long, value_name = "AGE", value_parser = ago)]
    idle: Option<OffsetDateTime>,
    /// Created longer ago than this.
    #[arg(long, value_name = "AGE", value_parser = ago)]
    older_than: Option<OffsetDateTime>,
    /// Created before: 2026-11-01, "2026-11-01 14:30" (local time), or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = point)]
    created_before: Option<OffsetDateTime>,
    /// Created after.
    #[arg(long, value_name = "TIME", value_parser = point)]
    created_after: Option<OffsetDateTime>,
    /// Last used before.
    #[arg(long, value_name = "TIME", value_parser = point, conflicts_with = "idle")]
    used_before: Option<OffsetDateTime>,
    /// Last used after.
    #[arg(long, value_name = "TIME", value_parser = point)]
    used_after: Option<OffsetDateTime>,
    /// Expires before, if it is not used again.
    #[arg(long, value_name = "TIME", value_parser = point)]
    expires_before: Option<OffsetDateTime>,
    /// Expires after, or never.
    #[arg(long, value_name = "TIME", value_parser = point)]
    expires_after: Option<OffsetDateTime>,
    /// The recorded user agent contains this text.
    #[arg(long, value_name = "TEXT", action = ArgAction::Set)]
    client: Option<String>,
    /// Created from this address.
    #[arg(long)]
    ip: Option<IpAddr>,
}

impl Filter {
    /// Chooses the sessions of one user.
    pub fn of(user: UserId) -> Self {
        Filter {
            user: Some(user),
            ..Filter::default()
        }
    }

    pub fn query(&self) -> Query {
        let mut query = Query::new();
        if let Some(user) = &self.user {
            query = query.user(&user.value);
        }
        if let Some(at) = self.idle.or(self.used_before) {
            query = query.accessed_before(at);
        }
        let created = self.older_than.into_iter().chain(self.created_before);
        if let Some(at) = created.min() {
            query = query.created_before(at);
        }
        if let Some(at) = self.created_after {
            query = query.created_after(at);
        }
        if let Some(at) = self.used_after {
            query = query.accessed_after(at);
        }
        if let Some(at) = self.expires_before {
            query = query.expires_before(at);
        }
        if let Some(at) = self.expires_after {
            query = query.expires_after(at);
        }
        if let Some(client) = &self.client {
            query = query.client_contains(client);
        }
        if let Some(ip) = self.ip {
            query = query.ip(ip);
        }
        query
    }

    /// Whether every session is chosen.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether nothing but a user is asked for.
    pub fn is_user_alone(&self) -> bool {
        // Not compared: a user that is NaN does not equal itself.
        let rest = Filter {
            user: None,
            ..self.clone()
        };
        self.user.is_some() && rest.is_empty()
    }
}

/// The time that is an age before now.
fn ago(text: &str) -> Result<OffsetDateTime, String> {
    let age = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let age = Duration::try_from(age).ok();
    let at = age.and_then(|age| OffsetDateTime::now_utc().checked_sub(age));
    at.map_or(Err(NO_SUCH_YEAR.to_owned()), in_range)
}

/// Refuses years that the type may hold or not, by a feature that any dependency may switch on.
fn in_range(at: OffsetDateTime) -> Result<OffsetDateTime, String> {
    match at.year() {
        0..=9999 => Ok(at),
        _ => Err(NO_SUCH_YEAR.to_owned()),
    }
}

const NO_SUCH_YEAR: &str = "the year must be from 0 to 9999";

fn point(text: &str) -> Result<OffsetDateTime, String> {
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S"))
        .or_else(|_| {
            NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|day| day.and_time(NaiveTime::MIN))
        });
    let at = match naive {
        // The earlier one where the clock is set back.
        Ok(naive) => Local.from_local_datetime(&naive).earliest(),
        Err(_) => DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|at| at.with_timezone(&Local)),
    };
    let at = at.ok_or("write 2026-11-01, \"2026-11-01 14:30\" (local time), or RFC 3339")?;
    let nanos =
        i128::from(at.timestamp()) * 1_000_000_000 + i128::from(at.timestamp_subsec_nanos());
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|error| error.to_string())?;
    in_range(at)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Args::command().debug_assert();
    }

    /// One id of 64 begins with a hyphen.
    #[test]
    fn ids_cursors_and_numbers_that_begin_with_a_hyphen() {
        const ID: &str = "-y3xQ0bV9aKzT1mE5cWn7g";
        let parse = |line: &[&str]| {
            let line = ["rocket-mongo-session"].iter().chain(line);
            Args::try_parse_from(line).expect("arguments").command
        };
        let Command::Revoke(revoke) = parse(&["revoke", "--dry-run", "--", ID, ID]) else {
            panic!("another command")
        };
        assert_eq!(revoke.ids, [ID, ID]);
        assert!(revoke.ending.dry_run);
        assert!(matches!(
            parse(&["show", "--values", "--", ID]),
            Command::Show { id, values: true } if id == ID
        ));
        let Command::List(list) = parse(&["list", "--after", ID, "--user", "-5"]) else {
            panic!("another command")
        };
        assert_eq!(list.after.as_deref(), Some(ID));
        assert!(list.filter.user.is_some());
    }

    #[test]
    fn times_are_local_or_rfc_3339() {
        let exact = point("2026-11-01T12:00:00Z").expect("a time");
        assert_eq!(exact.unix_timestamp(), 1_793_534_400);
        assert_eq!(point("2026-11-01"), point("2026-11-01 00:00"));
        assert!(point("yesterday").is_err());
        assert!(point("+20000-01-01").is_err());
    }

    #[test]
    fn age_before_the_first_year_is_refused() {
        let day = ago("1d").expect("a time");
        assert!(day < OffsetDateTime::now_utc() && ago("1h").is_ok_and(|hour| hour > day));
        for text in ["13000y", "5000000d", "500000000000y", "soon"] {
            assert!(ago(text).is_err(), "{text}");
        }
    }

    #[test]
    fn filter_of_a_user_asks_for_the_user_alone() {
        for user in ["alice", "7", r#"{"$numberDouble": "NaN"}"#] {
            let filter = Filter::of(user.parse().expect("a user"));
            assert!(filter.is_user_alone() && !filter.is_empty(), "{user}");
            let created_before = Some(OffsetDateTime::UNIX_EPOCH);
            let narrower = Filter {
                created_before,
                ..filter
            };
            assert!(!narrower.is_user_alone(), "{user}");
        }
    }

    #[test]
    fn help_has_the_exit_codes() {
        let help = Args::command().render_long_help().to_string();
        assert!(help.contains("130  interrupted"), "{help}");
    }
}
