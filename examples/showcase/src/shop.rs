//! The list of teas.

use rocket::{Route, get, routes};
use rocket_dyn_templates::{Template, context};

use crate::failure::Result;
use crate::page::Page;
use crate::tea::TEAS;
use crate::words::price;

pub fn routes() -> Vec<Route> {
    routes![shop]
}

#[get("/")]
async fn shop(page: Page<'_>) -> Result<Template> {
    let teas: Vec<_> = TEAS
        .iter()
        .map(|tea| context! { tea, price: price(tea.cents) })
        .collect();
    page.show("shop", context! { teas }).await
}
