//! Tables for people, which are Markdown as well.

/// Rows of cells under their names; the first column is text, the others are numbers or verdicts.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(names: &[&str]) -> Table {
        Table {
            rows: vec![names.iter().map(|name| (*name).to_owned()).collect()],
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn print(&self) {
        let columns = self.rows[0].len();
        let widths: Vec<usize> = (0..columns)
            .map(|at| {
                let cells = self.rows.iter().map(|row| row[at].chars().count());
                cells.max().unwrap_or(0)
            })
            .collect();
        for (number, row) in self.rows.iter().enumerate() {
            line(
                row.iter()
                    .zip(&widths)
                    .enumerate()
                    .map(|(at, (cell, &width))| match at {
                        0 => format!(" {cell:width$} "),
                        _ => format!(" {cell:>width$} "),
                    }),
            );
            if number == 0 {
                line(widths.iter().enumerate().map(|(at, &width)| match at {
                    0 => "-".repeat(width + 2),
                    _ => format!("{}:", "-".repeat(width + 1)),
                }));
            }
        }
        println!();
    }
}

fn line(cells: impl Iterator<Item = String>) {
    println!("|{}|", cells.collect::<Vec<_>>().join("|"));
}
