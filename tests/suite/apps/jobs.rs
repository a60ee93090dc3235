//! `Jobs`: a test's own closures as handlers, for values that JSON cannot say, and for what happens
//! inside one request.
//!
//! ```ignore
//! let (jobs, probe) = Jobs::start("my_test", &[]).await;
//! let (number, response) = jobs.run(&browser, |s| s.get::<u64>("n")).await;
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rocket::figment::value::Value as Setting;
use rocket::futures::future::BoxFuture;
use rocket::tokio::sync::oneshot;
use rocket::{Build, Rocket, State, post, routes};
use rocket_mongo_session::Session;

use crate::apps::probe::Probe;
use crate::support::{Browser, Request, Response};

type Work = Box<dyn for<'s> FnOnce(&'s Session) -> BoxFuture<'s, ()> + Send>;

/// Work that waits for a request to carry it out.
#[derive(Clone, Default)]
pub struct Jobs {
    waiting: Arc<Mutex<HashMap<usize, Work>>>,
    drawn: Arc<AtomicUsize>,
}

impl Jobs {
    /// A probe application whose handlers can be closures, too.
    pub async fn start(db: &str, session: &[(&str, Setting)]) -> (Jobs, Probe) {
        let jobs = Jobs::default();
        let probe = Probe::start_with(db, session, |rocket| jobs.mount(rocket)).await;
        (jobs, probe)
    }

    pub fn mount(&self, rocket: Rocket<Build>) -> Rocket<Build> {
        rocket.manage(self.clone()).mount("/", routes![job])
    }

    /// Carries out `work` in the handler of one request of the browser's: what it returned, and the
    /// response.
    pub async fn run<T: Send + 'static>(
        &self,
        browser: &Browser,
        work: impl FnOnce(&Session) -> T + Send + 'static,
    ) -> (T, Response) {
        self.run_async(browser, |session| {
            let done = work(session);
            Box::pin(async move { done })
        })
        .await
    }

    /// As `run`, for work that waits.
    pub async fn run_async<T: Send + 'static>(
        &self,
        browser: &Browser,
        work: impl for<'s> FnOnce(&'s Session) -> BoxFuture<'s, T> + Send + 'static,
    ) -> (T, Response) {
        let (tell, told) = oneshot::channel();
        let work: Work = Box::new(move |session| {
            let working = work(session);
            Box::pin(async move {
                let _ = tell.send(working.await);
            })
        });
        let id = self.drawn.fetch_add(1, Ordering::SeqCst);
        self.lock().insert(id, work);
        let response = browser.send(Request::post(&format!("/job/{id}"))).await;
        let done = told.await;
        (
            done.unwrap_or_else(|_| panic!("the work was not done: {response:?}")),
            response,
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Work>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[post("/job/<id>")]
async fn job(id: usize, session: &Session, jobs: &State<Jobs>) {
    let work = jobs.lock().remove(&id).expect("work");
    work(session).await;
}
