//! The ratios as a picture for the manual.

use crate::benches::Goal;
use crate::report::{Met, Row};

const LEFT: f64 = 200.0;
const WIDTH: f64 = 400.0;
const LINE: f64 = 26.0;
const TOP: f64 = 34.0;
/// The ratio at the right edge; what is more ends there, and says how much it is.
const MOST: f64 = 2.0;

/// A bar for each ratio, with a mark at its goal, and a line where filter and peer cost the same.
pub fn draw(rows: &[Row]) -> String {
    let rows: Vec<(&Row, f64)> = rows
        .iter()
        .filter_map(|row| match row.goal {
            Goal::Times(goal) => Some((row, goal)),
            Goal::More(_) => None,
        })
        .collect();
    let place = |ratio: f64| LEFT + WIDTH * (ratio / MOST).clamp(0.0, 1.0);
    let mut bars = String::new();
    let mut y = TOP;
    for (row, goal) in &rows {
        let (ratio, error) = row.reached();
        let colour = match row.met() {
            Met::Yes => "#2e7d32",
            Met::No => "#c62828",
            Met::Unclear => "#f9a825",
        };
        let (end, mark) = (place(ratio), place(*goal));
        bars.push_str(&format!(
            r##"<text x="{:.0}" y="{:.0}" text-anchor="end">{}</text>
<rect x="{LEFT:.0}" y="{y:.0}" width="{:.1}" height="16" fill="{colour}"/>
<path d="M{mark:.1} {:.0}v20" stroke="#000" stroke-width="2"/>
<text x="{:.1}" y="{:.0}">{ratio:.2} ± {error:.2}</text>
"##,
            LEFT - 8.0,
            y + 12.0,
            row.name,
            end - LEFT,
            y - 2.0,
            end.max(mark) + 6.0,
            y + 12.0,
        ));
        y += LINE;
    }
    let (width, height, same) = (LEFT + WIDTH + 110.0, y + 8.0, place(1.0));
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{LEFT:.0}" y="16">CPU of the filter, as a share of its peer's; black: the goal; dashed: the same cost</text>
<path d="M{same:.1} 24V{:.0}" stroke="#888" stroke-dasharray="4 3"/>
{bars}</svg>
"##,
        y - 4.0,
    )
}

#[cfg(test)]
mod tests {
    use super::draw;
    use crate::benches::Goal;
    use crate::report::Row;
    use crate::statistics::Sample;

    #[test]
    fn every_ratio_has_a_bar_within_the_picture() {
        let side = |median| Sample { median, lower: median, upper: median, error: 0.1 };
        let row = |name, goal, ours| Row {
            name,
            title: "",
            against: "",
            goal,
            none: side(12.0),
            ours: side(ours),
            peer: side(10.0),
        };
        let svg = draw(&[
            row("low", Goal::Times(0.9), 5.0),
            row("high", Goal::Times(0.9), 90.0),
            row("more", Goal::More(2.5), 1.0),
        ]);
        assert_eq!(svg.matches(r#"height="16""#).count(), 2, "{svg}");
        assert!(svg.contains(r#"width="100.0""#) && svg.contains(r#"width="400.0""#), "{svg}");
        assert!(svg.contains("9.00 ± 0.09"), "{svg}");
    }
}
