//! `export` and `erase`: what a person may ask for.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::ending::{CONTINUES, confirm, dry_run};
use super::reading::hint;
use super::{Context, sessions as number_of, watched};
use crate::args::{Ending, Filter, User};
use crate::failure::Failure;
use crate::output;

pub async fn export(context: Context, user: User, to: Option<PathBuf>) -> Result<(), Failure> {
    let sessions = context.app.sessions().await?;
    let theirs = sessions.of(&user.user.value);
    let rest = "nothing was written";
    let exported = watched(&context, "reading the sessions", rest, theirs.export()).await?;
    hint(exported.len() as u64, Some(&user.user));
    let count = exported.len() as u64;
    let text = serde_json::to_string_pretty(&Value::Array(exported))?;
    let Some(path) = to else {
        output::line(&text)?;
        return Ok(());
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // It is personal data: for its owner alone.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(&path)
        .map_err(|error| Failure::Usage(format!("--output {}: {error}", path.display())))?;
    writeln!(file, "{text}")?;
    let text = format!("{} exported", number_of(count));
    context.say("exported", count, &text)
}

/// A login that was in progress at the first round is found by the second.
const ROUNDS: usize = 3;

pub async fn erase(context: Context, user: User, ending: Ending) -> Result<(), Failure> {
    let sessions = context.app.sessions().await?;
    let theirs = sessions.of(&user.user.value);
    if ending.dry_run {
        let filter = Filter::of(user.user);
        return dry_run(&context, &sessions, &filter).await;
    }
    if !ending.yes {
        let count = theirs.count().await?;
        hint(count, Some(&user.user));
        let question = format!("Erase {} of this user?", number_of(count));
        confirm(&context, question).await?;
    }
    let mut erased = 0;
    let mut remaining = 1;
    for _ in 0..ROUNDS {
        let erase = theirs.revoke_all();
        erased += watched(&context, "erasing the sessions", CONTINUES, erase).await?;
        remaining = theirs.count().await?;
        if remaining == 0 {
            break;
        }
    }
    hint(erased, Some(&user.user));
    if context.json {
        output::json(&json!({ "erased": erased, "remaining": remaining }))?;
    } else {
        output::line(&format!("{} erased", number_of(erased)))?;
    }
    if remaining > 0 {
        let text = format!(
            "{} of the user were created meanwhile; run it again",
            number_of(remaining)
        );
        return Err(Failure::Database(text));
    }
    eprintln!(
        "not reached: backups, the oplog until it is overwritten, logs and audit trails, and sessions \
         that the user left by logging out"
    );
    Ok(())
}
