//! Servers that ask for a password, with a user of few privileges.

use mongodb::Client;
use mongodb::bson::{Document, doc};

use super::Mongod;

/// A server with a user `app`, who may do these actions on the collection `shop.session` and has these
/// roles on the database `shop`; and a client that may do everything.
pub async fn server(actions: &[&str], roles: &[&str]) -> (Mongod, Client) {
    let mongod = Mongod::builder().arg("--auth").start().await;
    // The first user comes from this machine, without a login.
    let root = doc! { "createUser": "root", "pwd": "rootpassword", "roles": ["root"] };
    command(&mongod.client().await, root).await;
    let url = format!(
        "mongodb://root:rootpassword@127.0.0.1:{}/?authSource=admin&directConnection=true",
        mongod.port()
    );
    let client = Client::with_uri_str(url).await.expect("a client");
    let sessions = doc! { "db": "shop", "collection": "session" };
    let privilege = doc! { "resource": sessions, "actions": actions.to_vec() };
    let privileges = match actions {
        [] => Vec::new(),
        _ => vec![privilege],
    };
    let role = doc! { "createRole": "sessions", "privileges": privileges, "roles": [] };
    command(&client, role).await;
    let on_shop = roles
        .iter()
        .map(|role| doc! { "role": *role, "db": "shop" });
    let mut all: Vec<Document> = on_shop.collect();
    all.push(doc! { "role": "sessions", "db": "admin" });
    let user = doc! { "createUser": "app", "pwd": "apppassword", "roles": all };
    command(&client, user).await;
    (mongod, client)
}

/// The address of `shop` for the user `app`, behind this port.
pub fn url(port: u16) -> String {
    format!("mongodb://app:apppassword@127.0.0.1:{port}/shop?authSource=admin")
}

async fn command(client: &Client, command: Document) {
    let done = client.database("admin").run_command(command).await;
    done.expect("a user or a role");
}
