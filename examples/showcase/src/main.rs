#[rocket::launch]
fn rocket() -> _ {
    showcase::rocket(rocket::Config::figment(), &Default::default())
}
