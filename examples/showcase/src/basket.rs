//! The basket. It is stored in the session, signed in or not.

use std::collections::BTreeMap;

use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{FromForm, Route, get, post, routes};
use rocket_dyn_templates::{Template, context};
use rocket_mongo_session::{CsrfForm, Key, Session};

use crate::customer::Customer;
use crate::failure::Result;
use crate::notice::Notice;
use crate::page::Page;
use crate::tea::Tea;
use crate::words::price;

/// The number of each tea.
pub type Basket = BTreeMap<String, u32>;

/// The key's name, for `login_keeping`.
pub const BASKET_NAME: &str = "basket";

pub const BASKET: Key<Basket> = Key::new(BASKET_NAME);

/// The largest number of one tea.
const MAX_OF_ONE_TEA: u32 = 20;

pub fn routes() -> Vec<Route> {
    routes![basket, add, change, order]
}

#[get("/")]
async fn basket(page: Page<'_>, session: &Session) -> Result<Template> {
    let basket = session.get(BASKET)?.unwrap_or_default();
    let mut total = 0;
    let mut lines = Vec::new();
    for (tea, count) in &basket {
        // Leave out teas that the shop no longer sells.
        let Some(tea) = Tea::find(tea) else { continue };
        let sum = tea.cents * count;
        total += sum;
        lines.push(context! { tea, count, price: price(tea.cents), sum: price(sum) });
    }
    let total = price(total);
    page.show("basket", context! { lines, total, most: MAX_OF_ONE_TEA })
        .await
}

#[derive(FromForm)]
struct Add<'r> {
    tea: &'r str,
}

#[post("/", data = "<form>")]
async fn add(form: CsrfForm<Add<'_>>, session: &Session) -> Result<Result<Redirect, Status>> {
    let Some(tea) = Tea::find(form.tea) else {
        return Ok(Err(Status::NotFound));
    };
    // When two tabs add at the same time, the basket gets both teas.
    session
        .modify(BASKET, |basket| {
            let mut basket: Basket = basket.unwrap_or_default();
            let count = basket.entry(tea.id.to_owned()).or_default();
            *count = (*count + 1).min(MAX_OF_ONE_TEA);
            basket
        })
        .await?;
    session.flash(Notice::good(format!("{} is in your basket.", tea.name)))?;
    Ok(Ok(Redirect::to("/")))
}

#[derive(FromForm)]
struct Change<'r> {
    tea: &'r str,
    count: u32,
}

#[post("/change", data = "<form>")]
async fn change(form: CsrfForm<Change<'_>>, session: &Session) -> Result<Redirect> {
    let count = form.count.min(MAX_OF_ONE_TEA);
    session
        .modify(BASKET, |basket| {
            let mut basket: Basket = basket.unwrap_or_default();
            match basket.get_mut(form.tea) {
                Some(_) if count == 0 => drop(basket.remove(form.tea)),
                Some(before) => *before = count,
                None => {}
            }
            basket
        })
        .await?;
    Ok(Redirect::to("/basket"))
}

#[post("/order", data = "<_form>")]
fn order(customer: Customer, _form: CsrfForm, session: &Session) -> Result<Redirect> {
    let Customer(user) = customer;
    if session.remove(BASKET) {
        session.flash(Notice::good(format!(
            "Thank you, {}. Nothing will arrive: this is a demonstration.",
            user.name
        )))?;
    }
    Ok(Redirect::to("/"))
}
