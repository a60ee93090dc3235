//! A request as a list of session calls, and the route that carries one out.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rocket::http::Status;
use rocket::http::uri::Origin;
use rocket::serde::json::{self, Json, Value, json};
use rocket::serde::{Deserialize, Serialize};
use rocket::tokio::time::timeout;
use rocket::{Route, State, post, routes};
use rocket_mongo_session::{Error, Session, Sessions};

use super::{Arena, Gates};
use crate::support::{Browser, eventually};

/// One call of a handler. What it answers is in [`Results`] under the same index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "rocket::serde")]
pub enum Op {
    /// The session as the handler sees it: a [`View`].
    View,
    Set(String, Value),
    Remove(String),
    Clear,
    Increment(String, i64),
    Push(String, Value),
    /// `modify` that adds.
    Add(String, i64),
    /// `modify_or_remove` that subtracts one, and removes what would be zero.
    CountDown(String),
    /// `modify` that appends.
    Append(String, Value),
    /// `set` of [`FLOAT`].
    SetFloat(Float),
    /// `modify` of [`FLOAT`] that changes its sign.
    Negate,
    Flash(Value),
    Pop,
    Login(String),
    LoginKeeping(String, Vec<String>),
    Elevate,
    Renew,
    Logout,
    LogoutKeeping(Vec<String>),
    /// The page to return to after a login.
    ReturnTo(String),
    TakeReturnTo,
    Touch,
    SkipTouch,
    Save,
    /// `save`, whose end the handler does not wait for.
    LeaveSave(Leaving),
    SetTimeout(u64),
    SetMaxAge(u64),
    ResetTimes,
    /// The administrator's call that concerns this session.
    RevokeOthers,
    /// Another: adds to a number of this session, from outside of it. Whether the session was there.
    Edit(String, i64),
    Csrf,
    /// Follows the session to its end, under this number.
    Follow(u64),
    /// Ends the program, unless there is a stored session.
    Stored,
    /// Ends the program if there is one.
    Fresh,
    Gate(u64),
    /// The handler returns this error, and a catcher generates the response.
    Fail(u16),
    Panic,
    /// The whole process ends here, as by kill -9.
    Die,
}

/// Where a program has a float.
pub const FLOAT: &str = "float";

/// Floats that are not equal to themselves, or equal to another, or no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "rocket::serde")]
pub enum Float {
    NotANumber,
    Infinity,
    Zero,
    NegativeZero,
}

impl Float {
    pub const ALL: [Float; 4] = [
        Float::NotANumber,
        Float::Infinity,
        Float::Zero,
        Float::NegativeZero,
    ];

    pub fn value(self) -> f64 {
        match self {
            Float::NotANumber => f64::NAN,
            Float::Infinity => f64::INFINITY,
            Float::Zero => 0.0,
            Float::NegativeZero => -0.0,
        }
    }
}

/// How programs show a float: JSON has no NaN.
pub fn shown(float: f64) -> Value {
    json!(format!("{float:?}"))
}

/// How a handler leaves a future that it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "rocket::serde")]
pub enum Leaving {
    /// Polled once and dropped.
    Dropped,
    /// Polled once and kept, but never again.
    PutAside,
    /// Dropped after a millisecond.
    TimedOut,
}

impl Leaving {
    /// What the future answers if it does so in time, and what is left of it.
    async fn leave<'a, T>(self, future: BoxFuture<'a, T>) -> (Option<T>, Option<BoxFuture<'a, T>>) {
        let mut future = future;
        match self {
            Leaving::TimedOut => (timeout(Duration::from_millis(1), future).await.ok(), None),
            Leaving::Dropped => (future.as_mut().now_or_never(), None),
            Leaving::PutAside => (future.as_mut().now_or_never(), Some(future)),
        }
    }
}

impl Arena {
    /// A browser for which this program was answered well: as soon as the application finds its
    /// database, which after a fault may take it a moment.
    pub async fn plant(&self, program: &[Op]) -> Browser {
        let mut planted = None;
        eventually("a session is stored", async || {
            let browser = self.browser();
            let response = self.run(&browser, program).await;
            planted = response.sends_cookie().then_some(browser);
            planted.is_some()
        })
        .await;
        planted.expect("it was there")
    }
}

impl Op {
    pub fn encode(program: &[Op]) -> String {
        json::to_string(&program).expect("a program")
    }
}

pub fn set(key: &str, value: impl Into<Value>) -> Op {
    Op::Set(key.to_owned(), value.into())
}

/// The session as a handler saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "rocket::serde")]
pub struct View {
    pub id: Option<String>,
    pub is_new: bool,
    pub user: Option<String>,
    /// Epoch milliseconds, as the next two.
    pub created: i64,
    pub accessed: i64,
    pub expires: Option<i64>,
    pub values: BTreeMap<String, Value>,
    pub flash: Vec<Value>,
}

impl View {
    pub fn int(&self, key: &str) -> i64 {
        self.values.get(key).and_then(Value::as_i64).unwrap_or(0)
    }

    pub fn list(&self, key: &str) -> Vec<Value> {
        let list = self.values.get(key).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    }

    fn of(session: &Session) -> Result<View, Error> {
        let millis = |at: rocket_mongo_session::time::OffsetDateTime| {
            i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
        };
        let mut values = BTreeMap::new();
        for key in session.keys() {
            if key == FLOAT {
                values.extend(session.get::<f64>(FLOAT)?.map(|float| (key, shown(float))));
            } else if let Some(value) = session.get::<Value>(key.as_str())? {
                values.insert(key, value);
            }
        }
        Ok(View {
            id: session.id(),
            is_new: session.is_new(),
            user: session.user()?,
            created: millis(session.created()),
            accessed: millis(session.accessed()),
            expires: session.expires().map(millis),
            values,
            flash: session.peek_flash()?,
        })
    }
}

/// What the steps of a program answered.
#[derive(Clone, Debug)]
pub struct Results(Vec<Result<Value, String>>);

impl Results {
    pub fn decode(text: &str) -> Results {
        let steps: Vec<Step> = json::from_str(text).expect("the results of a program");
        Results(steps.into_iter().map(Step::into_result).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, index: usize) -> &Result<Value, String> {
        &self.0[index]
    }

    /// The value of a step that must have gone well.
    pub fn value(&self, index: usize) -> &Value {
        self.0[index].as_ref().expect("a step that goes well")
    }

    pub fn view(&self, index: usize) -> View {
        json::from_value(self.value(index).clone()).expect("a view")
    }

    /// Whether the last step went well, or was told that the session is gone.
    pub fn is_saved(&self) -> bool {
        match self.0.last() {
            Some(Ok(_)) => true,
            Some(Err(error)) if error.starts_with("Gone") => false,
            other => panic!("neither saved nor gone: {other:?}"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(crate = "rocket::serde")]
enum Step {
    Ok(Value),
    Err(String),
}

impl Step {
    fn into_result(self) -> Result<Value, String> {
        match self {
            Step::Ok(value) => Ok(value),
            Step::Err(error) => Err(error),
        }
    }
}

pub fn routes() -> Vec<Route> {
    routes![run, none]
}

/// Without a session.
#[rocket::get("/none")]
fn none() -> &'static str {
    "no session"
}

#[post("/run", data = "<program>")]
async fn run(
    session: &Session,
    sessions: &Sessions,
    gates: &State<Gates>,
    program: Json<Vec<Op>>,
) -> Result<Json<Vec<Step>>, Status> {
    let (mut steps, mut aside) = (Vec::new(), Vec::new());
    for op in program.into_inner() {
        if let Op::Fail(code) = op {
            return Err(Status::new(code));
        }
        if (op == Op::Stored && session.is_new()) || (op == Op::Fresh && !session.is_new()) {
            steps.push(Step::Err("Ended: here, as the program has it".to_owned()));
            break;
        }
        if let Op::LeaveSave(how) = op {
            let (saved, rest) = how.leave(session.save().boxed()).await;
            aside.push(rest);
            steps.push(match saved {
                Some(Err(error)) => Step::Err(format!("{error:?}")),
                _ => Step::Ok(Value::Null),
            });
            continue;
        }
        steps.push(match carry_out(session, sessions, gates, op).await {
            Ok(value) => Step::Ok(value),
            Err(error) => Step::Err(format!("{error:?}")),
        });
    }
    Ok(Json(steps))
}

async fn carry_out(
    session: &Session,
    sessions: &Sessions,
    gates: &Gates,
    op: Op,
) -> Result<Value, Error> {
    match op {
        Op::View => return Ok(json!(View::of(session)?)),
        Op::Set(name, value) => session.set(name.as_str(), &value)?,
        Op::Remove(name) => return Ok(json!(session.remove(name.as_str()))),
        Op::Clear => session.clear(),
        Op::Increment(name, by) => return Ok(json!(session.increment(name.as_str(), by)?)),
        Op::Push(name, value) => session.push(name.as_str(), &value)?,
        Op::Add(name, by) => {
            let sum = session.modify(name.as_str(), |n: Option<i64>| n.unwrap_or(0) + by);
            return Ok(json!(sum.await?));
        }
        Op::CountDown(name) => {
            let less = |n: Option<i64>| n.filter(|n| *n > 1).map(|n| n - 1);
            return Ok(json!(session.modify_or_remove(name.as_str(), less).await?));
        }
        Op::Append(name, value) => {
            let append = |list: Option<Vec<Value>>| {
                let mut list = list.unwrap_or_default();
                list.push(value.clone());
                list
            };
            return Ok(json!(session.modify(name.as_str(), append).await?));
        }
        Op::SetFloat(float) => session.set(FLOAT, &float.value())?,
        Op::Negate => {
            let negate = |float: Option<f64>| -float.unwrap_or(0.0);
            return Ok(shown(session.modify(FLOAT, negate).await?));
        }
        Op::Flash(message) => session.flash(message)?,
        Op::Pop => return Ok(json!(session.pop_flash::<Value>().await?)),
        Op::Login(user) => session.login(user)?,
        Op::LoginKeeping(user, keys) => {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            session.login_keeping(user, &keys)?;
        }
        Op::Elevate => session.elevate()?,
        Op::Renew => session.renew()?,
        Op::Logout => session.logout()?,
        Op::LogoutKeeping(keys) => {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            session.logout_keeping(&keys)?;
        }
        Op::ReturnTo(page) => {
            session.set_return_to(&Origin::parse(&page).expect("an address"))?;
        }
        Op::TakeReturnTo => {
            let page = session.take_return_to();
            return Ok(json!(page.map(|page| page.to_string())));
        }
        Op::Touch => session.touch(),
        Op::SkipTouch => session.skip_touch(),
        Op::ResetTimes => session.reset_times()?,
        Op::Save => session.save().await?,
        Op::SetTimeout(millis) => {
            session.set_timeout(Some(Duration::from_millis(millis)))?;
        }
        Op::SetMaxAge(seconds) => {
            session.set_max_age(Some(Duration::from_secs(seconds)))?;
        }
        Op::RevokeOthers => return Ok(json!(sessions.revoke_others(session).await?)),
        Op::Edit(name, by) => {
            let Some(id) = session.id() else {
                return Ok(json!(false));
            };
            let edit = sessions.edit(&id).increment(name.as_str(), by);
            return Ok(json!(edit.apply().await?));
        }
        Op::Csrf => return Ok(json!(session.csrf_token())),
        Op::Follow(number) => gates.follow(number, session.ended()),
        Op::Gate(number) => gates.pass(number).await,
        Op::Stored | Op::Fresh | Op::Fail(_) | Op::LeaveSave(_) => {} // the route's own
        // As any other panic unwinds, without a report of each.
        Op::Panic => std::panic::resume_unwind(Box::new("a handler's")),
        Op::Die => {
            let pid = std::process::id().to_string();
            let _ = std::process::Command::new("kill")
                .args(["-9", &pid])
                .status();
            std::future::pending::<()>().await;
        }
    }
    Ok(Value::Null)
}
