//! The teas.

use serde::Serialize;

#[derive(Serialize)]
pub struct Tea {
    pub id: &'static str,
    pub name: &'static str,
    about: &'static str,
    pub cents: u32,
}

impl Tea {
    pub fn find(id: &str) -> Option<&'static Tea> {
        TEAS.iter().find(|tea| tea.id == id)
    }
}

const fn tea(id: &'static str, name: &'static str, about: &'static str, cents: u32) -> Tea {
    Tea {
        id,
        name,
        about,
        cents,
    }
}

pub const TEAS: &[Tea] = &[
    tea(
        "sencha",
        "Morning Sencha",
        "Grassy and bright, from the first flush.",
        950,
    ),
    tea(
        "oolong",
        "Jade Oolong",
        "Floral, half oxidized, good for six infusions.",
        1200,
    ),
    tea(
        "assam",
        "Assam Malty",
        "Strong enough for milk and for Mondays.",
        800,
    ),
    tea("peony", "White Peony", "Pale, sweet and patient.", 1450),
    tea(
        "lapsang",
        "Lapsang Souchong",
        "Dried over pine smoke; a campfire in a cup.",
        1100,
    ),
    tea(
        "grey",
        "Earl Grey",
        "Ceylon leaves with oil of bergamot.",
        850,
    ),
    tea(
        "mint",
        "Moroccan Mint",
        "Gunpowder green and a garden of mint.",
        750,
    ),
    tea(
        "rooibos",
        "Cape Rooibos",
        "Red, round, and without caffeine.",
        700,
    ),
];
