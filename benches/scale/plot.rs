//! Line plots, as SVG.

use std::fmt::Write;

/// The drawing's size, and the margins around the plot itself.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;

/// Colours that differ for the colour-blind as well.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// Lines over a logarithmic axis of sizes and a linear one of rates.
pub struct Plot<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    /// The places on the axis and what they are called.
    pub sizes: Vec<(f64, String)>,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub name: String,
    /// Lines of one colour are told apart by their dashes.
    pub colour: usize,
    pub is_dashed: bool,
    /// One for each size.
    pub values: Vec<f64>,
}

impl Plot<'_> {
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        let most = self.lines.iter().flat_map(|line| &line.values);
        let step = step(most.copied().fold(0.0, f64::max));
        let top = step * 5.0;
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let first = self.sizes.first().map_or(1.0, |size| size.0).ln();
        let last = self.sizes.last().map_or(1.0, |size| size.0).ln();
        let x = |size: f64| {
            LEFT + (size.ln() - first) / (last - first).max(1e-9) * (WIDTH - LEFT - RIGHT)
        };
        // Writing to a string cannot fail.
        let mut put = |text: String| {
            let _ = writeln!(svg, "{text}");
        };
        put(format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13" fill="#222">"##
        ));
        put(format!(
            r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>"##
        ));
        put(label(LEFT, 24.0, "start", "font-size=\"16\"", self.title));
        put(label(LEFT, 42.0, "start", "fill=\"#666\"", self.y));
        for tick in 0..=5 {
            let value = step * f64::from(tick);
            let at = y(value);
            let right = WIDTH - RIGHT;
            put(format!(
                r##"<path d="M{LEFT} {at:.1}H{right}" stroke="#ddd"/>"##
            ));
            put(label(LEFT - 8.0, at + 4.0, "end", "", &thousands(value)));
        }
        for (size, name) in &self.sizes {
            put(label(x(*size), HEIGHT - BOTTOM + 20.0, "middle", "", name));
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        put(label(
            middle,
            HEIGHT - 16.0,
            "middle",
            "fill=\"#666\"",
            self.x,
        ));
        for (at, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[line.colour % COLOURS.len()];
            let dashes = match line.is_dashed {
                true => r#" stroke-dasharray="6 4""#,
                false => "",
            };
            let points = self.sizes.iter().zip(&line.values);
            let points: Vec<String> = points
                .map(|((size, _), value)| format!("{:.1},{:.1}", x(*size), y(*value)))
                .collect();
            put(format!(
                r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>"#,
                points.join(" ")
            ));
            for point in &points {
                let (cx, cy) = point.split_once(',').unwrap_or_default();
                put(format!(
                    r#"<circle cx="{cx}" cy="{cy}" r="3" fill="{colour}"/>"#
                ));
            }
            let (from, to) = (WIDTH - RIGHT + 16.0, WIDTH - RIGHT + 44.0);
            let row = TOP + 20.0 * at as f64 + 6.0;
            put(format!(
                r#"<path d="M{from} {row}H{to}" stroke="{colour}" stroke-width="2"{dashes}/>"#
            ));
            put(label(to + 8.0, row + 4.0, "start", "", &line.name));
        }
        put("</svg>".to_owned());
        svg
    }
}

fn label(x: f64, y: f64, anchor: &str, more: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" {more}>{text}</text>"#)
}

/// A fifth of an axis that reaches `most`: 1, 2 or 5 of some power of ten.
fn step(most: f64) -> f64 {
    let least = (most / 5.0).max(1.0);
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
