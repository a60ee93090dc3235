//! Keys and values: whatever requests do to a session, in both encodings, it holds what a map would
//! hold, in each call's answer, later in the request and in the next one.
//!
//! The input is a list of steps, each carried out on a session and on a map.
#![cfg_attr(fuzzing, no_main)]

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use arbitrary::{Arbitrary, Unstructured};
use rocket::local::blocking::Client;
use rocket::serde::json::{Value, json};
use rocket::{post, routes};
use rocket_mongo_session::{Error, Session, Sessions};
use rocket_mongo_session_fuzz::{client, cookie, lock, member, rocket, set_cookie, target};
use serde::{Deserialize, Serialize};

#[derive(Arbitrary, Clone, Debug)]
enum Name {
    /// One of a few, so that steps meet.
    Known(u8),
    Any(String),
}

const NAMES: [&str; 16] = [
    "a", "b", "a.b", "$a", "$", ".", "%", "%2E", "%24a", "_f_", "_f_x", "_csrft_", "_id", "value",
    "", "a\0b",
];

impl Name {
    fn text(&self) -> String {
        match self {
            Name::Known(at) => NAMES[usize::from(*at) % NAMES.len()].to_owned(),
            Name::Any(text) => text.clone(),
        }
    }
}

/// What JSON can say.
#[derive(Arbitrary, Clone, Debug)]
enum Plain {
    Null,
    Bool(bool),
    Small(i8),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Plain>),
    Map(Vec<(Name, Plain)>),
    /// A number of lists around a value.
    Deep(u8, Box<Plain>),
}

impl Plain {
    fn json(&self) -> Value {
        match self {
            Plain::Null => Value::Null,
            Plain::Bool(value) => json!(value),
            Plain::Small(value) => json!(value),
            Plain::Integer(value) => json!(value),
            Plain::Unsigned(value) => json!(value),
            // JSON has no NaN; `json!` makes null of it.
            Plain::Float(value) => json!(value),
            Plain::Text(value) => json!(value),
            Plain::List(values) => values.iter().map(Plain::json).collect(),
            Plain::Map(values) => Value::Object(
                values
                    .iter()
                    .map(|(name, value)| (name.text(), value.json()))
                    .collect(),
            ),
            Plain::Deep(levels, value) => {
                (0..levels % 80).fold(value.json(), |value, _| json!([value]))
            }
        }
    }
}

/// What serde can say beyond JSON.
#[derive(Arbitrary, Serialize, Deserialize, Clone, Debug, PartialEq)]
enum Typed {
    Unit,
    Truth(bool),
    Signed(i64),
    Unsigned(u64),
    Wide(i128),
    Single(f32),
    Letter(char),
    Bytes(Vec<u8>),
    Pair(u8, String),
    Named {
        first: Option<i16>,
        second: Box<Typed>,
    },
    Maybe(Option<Vec<Typed>>),
    Numbered(BTreeMap<u64, Typed>),
    Lettered(BTreeMap<String, Typed>),
}

#[derive(Arbitrary, Clone, Debug)]
enum Step {
    Set(Name, Plain),
    SetTyped(u8, Typed),
    Remove(Name),
    Take(Name),
    GetOrInsert(Name, Plain),
    Increment(Name, i64),
    Push(Name, Plain),
    Modify(Name, Plain),
    Flash(Name, Plain),
    FlashOnce(Name, Plain),
    PopFlash(Name),
    /// As a type that its messages may not be of.
    PopFlags(Name),
    Clear,
    Save,
    Renew,
    Elevate,
    /// The request ends, and another one begins.
    Next,
}

#[derive(Default)]
struct Model {
    plain: BTreeMap<String, Value>,
    typed: BTreeMap<String, Typed>,
    flash: BTreeMap<String, Vec<Value>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Document,
    Binary,
}

/// The steps of the next request, and the map that they change.
struct NextRequest {
    encoding: Encoding,
    steps: Vec<Step>,
    model: Model,
}

static NEXT_REQUEST: Mutex<Option<NextRequest>> = Mutex::new(None);

#[post("/steps")]
async fn steps(session: &Session) {
    let mut next = lock(&NEXT_REQUEST).take().expect("a request");
    compare(session, &next.model);
    for step in next.steps.drain(..) {
        run(session, &step, &mut next.model, next.encoding).await;
        compare(session, &next.model);
    }
    *lock(&NEXT_REQUEST) = Some(next);
}

#[post("/out")]
fn out(session: &Session) -> Result<(), Error> {
    session.logout()
}

static APPS: LazyLock<Vec<(Encoding, Mutex<Client>)>> = LazyLock::new(|| {
    let both = [
        (Encoding::Document, "document"),
        (Encoding::Binary, "binary"),
    ];
    let both = both.into_iter().map(|(encoding, name)| {
        let settings = json!({ "timeout": false, "encoding": name });
        let rocket = rocket(Sessions::in_memory(), settings);
        (encoding, client(rocket.mount("/", routes![steps, out])))
    });
    both.collect()
});

target!(|data: &[u8]| {
    let all = Vec::<Step>::arbitrary_take_rest(Unstructured::new(data));
    let Ok(all) = all else { return };
    if all.len() > 40 {
        return;
    }
    for (encoding, client) in APPS.iter() {
        let client = lock(client);
        let mut live = member(&client, "alice");
        let mut model = Model::default();
        // One more request than there are ends, to see what the last one left.
        let requests = all.split(|step| matches!(step, Step::Next));
        for steps in requests.chain([&[] as &[Step]]) {
            *lock(&NEXT_REQUEST) = Some(NextRequest {
                encoding: *encoding,
                steps: steps.to_vec(),
                model,
            });
            let response = client.post("/steps").header(cookie(&live)).dispatch();
            assert_eq!(response.status().code, 200);
            if let Some(fresh) = set_cookie(&response) {
                live = fresh;
            }
            let user = client.get("/whoami").header(cookie(&live)).dispatch();
            assert_eq!(user.into_string().as_deref(), Some("alice"));
            model = lock(&NEXT_REQUEST).take().expect("the request").model;
        }
        let out = client.post("/out").header(cookie(&live)).dispatch();
        assert_eq!(out.status().code, 200);
    }
});

/// The session shows what the map holds.
fn compare(session: &Session, model: &Model) {
    let mut keys = session.keys();
    keys.sort();
    let mut expected: Vec<String> = model
        .plain
        .keys()
        .chain(model.typed.keys())
        .cloned()
        .collect();
    expected.sort();
    assert_eq!(keys, expected);
    assert_eq!(session.len(), expected.len());
    assert_eq!(session.is_empty(), expected.is_empty());
    for (name, messages) in &model.flash {
        let read = session.flash_queue(name).peek::<Value>();
        assert_eq!(read.expect("messages"), *messages, "{name:?}");
    }
    for (key, value) in &model.plain {
        assert!(session.contains(key));
        let read = session.get::<Value>(key).expect("a value");
        assert_eq!(read.as_ref(), Some(value), "{key:?}");
    }
    for (key, value) in &model.typed {
        let read = session.get::<Typed>(key).expect("a value");
        assert!(
            read.is_some_and(|read| same(&read, value)),
            "{key:?}: {value:?}"
        );
    }
}

async fn run(session: &Session, step: &Step, model: &mut Model, encoding: Encoding) {
    match step {
        Step::Set(name, value) => {
            let (name, value) = (name.text(), value.json());
            let fits = is_key(&name) && fits(&value, encoding);
            assert_eq!(session.set(&name, &value).is_ok(), fits, "{name:?} {value}");
            if fits {
                model.put(name, value);
            }
        }
        Step::SetTyped(at, value) => {
            let name = format!("typed.{}", at % 4);
            match session.set(&name, value) {
                Ok(()) => {
                    assert!(typed_fits(value, encoding), "{value:?}");
                    model.plain.remove(&name);
                    model.typed.insert(name, value.clone());
                }
                Err(Error::Encode { .. }) => assert!(!typed_fits(value, encoding), "{value:?}"),
                Err(error) => panic!("{error}: {value:?}"),
            }
        }
        Step::Remove(name) => {
            let name = name.text();
            let had = model.plain.remove(&name).is_some() | model.typed.remove(&name).is_some();
            assert_eq!(session.remove(&name), had, "{name:?}");
        }
        Step::Take(name) => {
            let name = name.text();
            if model.typed.contains_key(&name) {
                return;
            }
            let taken = session.take::<Value>(&name).expect("a value, or none");
            assert_eq!(taken, model.plain.remove(&name), "{name:?}");
        }
        Step::GetOrInsert(name, value) => {
            let (name, value) = (name.text(), value.json());
            if model.typed.contains_key(&name) {
                return;
            }
            let response = session.get_or_insert(&name, value.clone()).ok();
            let expected = match model.plain.get(&name) {
                Some(stored) => Some(stored.clone()),
                None => (is_key(&name) && fits(&value, encoding)).then_some(value),
            };
            assert_eq!(response, expected, "{name:?}");
            if let Some(value) = expected {
                model.put(name, value);
            }
        }
        Step::Increment(name, by) => {
            let name = name.text();
            if model.typed.contains_key(&name) {
                return;
            }
            let expected = match model.plain.get(&name) {
                _ if !is_key(&name) => None,
                None => Some(*by),
                Some(value) => value.as_i64().and_then(|number| number.checked_add(*by)),
            };
            assert_eq!(
                session.increment(&name, *by).ok(),
                expected,
                "{name:?} {by}"
            );
            if let Some(sum) = expected {
                model.put(name, json!(sum));
            }
        }
        Step::Push(name, value) => {
            let (name, value) = (name.text(), value.json());
            if model.typed.contains_key(&name) {
                return;
            }
            let list = match model.plain.get(&name) {
                None => Some(Vec::new()),
                Some(Value::Array(list)) => Some(list.clone()),
                Some(_) => None,
            };
            let pushed = session.push(&name, &value);
            match list {
                // Which encoding an element gets is its list's, so that what fits may differ.
                Some(mut list) if pushed.is_ok() => {
                    list.push(value);
                    model.put(name, Value::Array(list));
                }
                Some(_) => assert!(!is_key(&name) || !fits(&value, Encoding::Document)),
                None => assert!(pushed.is_err(), "{name:?}"),
            }
        }
        Step::Modify(name, value) => {
            let (name, value) = (name.text(), value.json());
            if model.typed.contains_key(&name) {
                return;
            }
            let mut seen = None;
            let change = |stored: Option<Value>| {
                seen = Some(stored);
                value.clone()
            };
            let modified = session.modify(&name, change).await;
            let fits = is_key(&name) && fits(&value, encoding);
            assert_eq!(modified.is_ok(), fits, "{name:?} {value}");
            if fits {
                assert_eq!(seen.expect("a call").as_ref(), model.plain.get(&name));
                model.put(name, value);
            }
        }
        Step::Flash(name, message) => {
            let (name, message) = (name.text(), message.json());
            let fits = !name.contains('\0') && fits(&message, encoding);
            assert_eq!(session.flash_queue(&name).push(&message).is_ok(), fits);
            if fits {
                model.flash.entry(name).or_default().push(message);
            }
        }
        Step::FlashOnce(name, message) => {
            let (name, message) = (name.text(), message.json());
            if message.to_string().contains("-0.0") {
                return; // whether it is 0.0 depends on the encoding
            }
            let fits = !name.contains('\0') && fits(&message, encoding);
            assert_eq!(
                session.flash_queue(&name).push_unique(&message).is_ok(),
                fits
            );
            if fits {
                let queue = model.flash.entry(name).or_default();
                if !queue.contains(&message) {
                    queue.push(message);
                }
            }
        }
        Step::PopFlash(name) => {
            let name = name.text();
            let popped = session.flash_queue(&name).pop::<Value>().await;
            let expected = model.flash.remove(&name).unwrap_or_default();
            let expected = (!name.contains('\0')).then_some(expected);
            assert_eq!(popped.ok(), expected, "{name:?}");
        }
        Step::PopFlags(name) => {
            let name = name.text();
            let popped = session.flash_queue(&name).pop::<bool>().await;
            // It is empty after that, whether its messages were such or not.
            let messages = model.flash.remove(&name).unwrap_or_default();
            let expected: Option<Vec<bool>> = messages.iter().map(Value::as_bool).collect();
            let expected = expected.filter(|_| !name.contains('\0'));
            assert_eq!(popped.ok(), expected, "{name:?}");
        }
        Step::Clear => {
            session.clear();
            model.plain.clear();
            model.typed.clear();
        }
        Step::Save => session.save().await.expect("saved"),
        Step::Renew => session.renew().expect("renewed"),
        Step::Elevate => session.elevate().expect("elevated"),
        Step::Next => {}
    }
}

impl Model {
    fn put(&mut self, name: String, value: Value) {
        self.typed.remove(&name);
        self.plain.insert(name, value);
    }
}

fn is_key(name: &str) -> bool {
    !name.is_empty() && !name.contains('\0')
}

/// Whether a value can be stored: 64 levels, and in documents what BSON has.
fn fits(value: &Value, encoding: Encoding) -> bool {
    fn levels(value: &Value) -> usize {
        match value {
            Value::Array(values) => 1 + values.iter().map(levels).max().unwrap_or(0),
            Value::Object(values) => 1 + values.values().map(levels).max().unwrap_or(0),
            _ => 0,
        }
    }
    fn is_bson(value: &Value) -> bool {
        match value {
            Value::Number(number) => !number.is_u64() || number.is_i64(),
            Value::Array(values) => values.iter().all(is_bson),
            Value::Object(values) => values
                .iter()
                .all(|(name, value)| !name.contains('\0') && is_bson(value)),
            _ => true,
        }
    }
    levels(value) <= 64 && (encoding == Encoding::Binary || is_bson(value))
}

/// Whether a typed value can be stored: 64 levels, and in documents no integer above `i64::MAX`,
/// no 128-bit integer, no NUL in a name, and only names that are text.
fn typed_fits(value: &Typed, encoding: Encoding) -> bool {
    // Each enum's variant is a map of one, `Some` counts as a level, and a sequence is one.
    fn levels(value: &Typed) -> usize {
        fn most<'a>(inside: impl Iterator<Item = &'a Typed>) -> usize {
            inside.map(levels).max().unwrap_or(0)
        }
        match value {
            Typed::Unit => 0,
            Typed::Bytes(_) | Typed::Pair(..) => 2,
            Typed::Named { first, second } => 2 + levels(second).max(first.iter().count()),
            Typed::Maybe(None) => 1,
            Typed::Maybe(Some(values)) => 3 + most(values.iter()),
            Typed::Numbered(values) => 2 + most(values.values()),
            Typed::Lettered(values) => 2 + most(values.values()),
            _ => 1,
        }
    }
    fn is_bson(value: &Typed) -> bool {
        match value {
            Typed::Unsigned(number) => i64::try_from(*number).is_ok(),
            Typed::Wide(_) => false,
            Typed::Named { second, .. } => is_bson(second),
            Typed::Maybe(values) => values.iter().flatten().all(is_bson),
            Typed::Numbered(values) => values.is_empty(),
            Typed::Lettered(values) => values
                .iter()
                .all(|(name, value)| !name.contains('\0') && is_bson(value)),
            _ => true,
        }
    }
    levels(value) <= 64 && (encoding == Encoding::Binary || is_bson(value))
}

/// Equal, as far as a NaN is.
fn same(a: &Typed, b: &Typed) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}
