//! Plots as SVG: a few kinds, from numbers only. The same numbers produce the same text.

use std::fmt::Write;

use crate::axis::{Axis, Scale};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 436.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 60.0;
const LEGEND_LINE: f64 = 20.0;
const LEGENDS_A_LINE: usize = 2;
/// The longest name, in characters, of which two fit into a line.
const LEGEND_LENGTH: usize = 46;

/// Distinguishable with colour vision deficiency (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a", "#b2a800"];

const STYLE: &str = "text{font:13px sans-serif;fill:#24292f}.title{font-size:16px;font-weight:bold}\
.grid{stroke:#d8dee4}.axis{stroke:#57606a}.back{fill:#ffffff}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}.axis{stroke:#8b949e}.back{fill:#0d1117}}";

/// A line through points, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Filled down to zero, or to the series before it: the values are sums.
    pub(crate) filled: bool,
    /// For something that is not comparable with the others.
    pub(crate) dashed: bool,
}

/// An event in time: a vertical line with a number, which is explained below the plot.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) at: f64,
    pub(crate) text: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) x_scale: Scale,
    pub(crate) y_scale: Scale,
    pub(crate) series: Vec<Series>,
    pub(crate) marks: Vec<Mark>,
}

impl Plot {
    /// None if there is nothing to draw.
    pub(crate) fn svg(&self) -> Option<String> {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::over(self.x_scale, all().map(|(x, _)| *x))?;
        let y = Axis::over(self.y_scale, all().map(|(_, y)| *y))?;
        let lines = self.series.len().div_ceil(self.series_a_line()) + self.marks.len().div_ceil(LEGENDS_A_LINE);
        let height = HEIGHT + LEGEND_LINE * lines as f64;
        let right = WIDTH - RIGHT;
        let bottom = HEIGHT - BOTTOM;
        let at = |(px, py): (f64, f64)| (LEFT + x.part(px) * (right - LEFT), bottom - y.part(py) * (bottom - TOP));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\">\n\
             <title>{0}</title>\n<style>{STYLE}</style>\n<rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"24\">{0}</text>\n",
            escaped(&self.title)
        );
        for (value, label) in y.ticks() {
            let (_, top) = at((x.low(), value));
            line(&mut out, "grid", [LEFT, top, right, top]);
            text(&mut out, "end", LEFT - 8.0, top + 4.0, &label);
        }
        for (value, label) in x.ticks() {
            let (left, _) = at((value, y.low()));
            line(&mut out, "grid", [left, TOP, left, bottom]);
            text(&mut out, "middle", left, bottom + 18.0, &label);
        }
        line(&mut out, "axis", [LEFT, bottom, right, bottom]);
        line(&mut out, "axis", [LEFT, TOP, LEFT, bottom]);
        text(&mut out, "middle", f64::midpoint(LEFT, right), bottom + 40.0, &self.x);
        let middle = f64::midpoint(TOP, bottom);
        let _ = writeln!(
            out,
            "<text text-anchor=\"middle\" transform=\"translate(18 {middle:.1}) rotate(-90)\">{}</text>",
            escaped(&self.y)
        );
        self.draw_series(&mut out, &at);
        for (number, mark) in self.marks.iter().enumerate() {
            let (left, _) = at((mark.at, y.low()));
            let _ = writeln!(
                out,
                "<line class=\"axis\" stroke-dasharray=\"3 3\" x1=\"{left:.1}\" y1=\"{TOP}\" x2=\"{left:.1}\" y2=\"{bottom}\"/>"
            );
            // At alternating heights, so that neighbours stay legible.
            let above = TOP - 4.0 - 12.0 * ((number + 1) % 2) as f64;
            text(&mut out, "middle", left, above, &(number + 1).to_string());
        }
        self.draw_legend(&mut out);
        out.push_str("</svg>\n");
        Some(out)
    }

    fn draw_series(&self, out: &mut String, at: &impl Fn((f64, f64)) -> (f64, f64)) {
        // Sums are drawn from the highest down, so that each covers the part that belongs to the lower ones.
        let (filled, lines): (Vec<_>, Vec<_>) = self.series.iter().enumerate().partition(|(_, series)| series.filled);
        for (number, series) in filled.into_iter().rev().chain(lines) {
            let colour = COLOURS[number % COLOURS.len()];
            let places: Vec<_> = series.points.iter().map(|point| at(*point)).collect();
            let list: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            if series.filled
                && let (Some((first, _)), Some((last, _))) = (places.first(), places.last())
            {
                let bottom = HEIGHT - BOTTOM;
                let _ = writeln!(
                    out,
                    "<polygon fill=\"{colour}\" points=\"{first:.1},{bottom} {} {last:.1},{bottom}\"/>",
                    list.join(" ")
                );
                continue;
            }
            let _ = writeln!(
                out,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{} points=\"{}\"/>",
                if series.dashed { " stroke-dasharray=\"6 4\"" } else { "" },
                list.join(" ")
            );
            if places.len() <= 20 {
                for (x, y) in places {
                    let _ = writeln!(out, "<circle fill=\"{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
                }
            }
        }
    }

    /// Two names side by side, if there is room.
    fn series_a_line(&self) -> usize {
        let has_room = self.series.iter().all(|series| series.name.chars().count() <= LEGEND_LENGTH);
        if has_room { LEGENDS_A_LINE } else { 1 }
    }

    fn draw_legend(&self, out: &mut String) {
        let (column, a_line) = ((WIDTH - LEFT - RIGHT) / LEGENDS_A_LINE as f64, self.series_a_line());
        for (number, series) in self.series.iter().enumerate() {
            let x = LEFT + column * (number % a_line) as f64;
            let y = HEIGHT + LEGEND_LINE * (number / a_line) as f64;
            let colour = COLOURS[number % COLOURS.len()];
            let _ =
                writeln!(out, "<rect fill=\"{colour}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\"/>", y - 4.0);
            text(out, "start", x + 18.0, y + 7.0, &series.name);
        }
        let below = HEIGHT + LEGEND_LINE * self.series.len().div_ceil(a_line) as f64;
        // Down the first column, then down the next: marks are in the order of time.
        let rows = self.marks.len().div_ceil(LEGENDS_A_LINE).max(1);
        for (number, mark) in self.marks.iter().enumerate() {
            let x = LEFT + column * (number / rows) as f64;
            let y = below + LEGEND_LINE * (number % rows) as f64;
            text(out, "start", x, y + 7.0, &format!("{}: {} ({:.1})", number + 1, mark.text, mark.at));
        }
    }
}

fn line(out: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(out, "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
}

fn text(out: &mut String, anchor: &str, x: f64, y: f64, text: &str) {
    let _ = writeln!(out, "<text text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(series: Vec<Series>) -> Plot {
        let (x, y) = ("writers".to_owned(), "per second".to_owned());
        let title = "A < B & \"C\"".to_owned();
        Plot { title, x, y, x_scale: Scale::Linear, y_scale: Scale::Linear, series, marks: Vec::new() }
    }

    fn series(name: &str, filled: bool, points: &[(f64, f64)]) -> Series {
        Series { name: name.to_owned(), points: points.to_vec(), filled, dashed: false }
    }

    #[test]
    fn points_are_where_their_values_are() {
        let svg = plot(vec![series("ours", false, &[(0.0, 0.0), (50.0, 100.0), (100.0, 50.0)])]).svg().unwrap();
        // The axes end at 100: the corners, and the middle of the right side.
        assert!(svg.contains("points=\"76.0,376.0 408.0,60.0 740.0,218.0\""), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3);
    }

    #[test]
    fn what_is_written_is_escaped() {
        let svg = plot(vec![series("a<b", false, &[(0.0, 1.0), (1.0, 2.0)])]).svg().unwrap();
        assert!(svg.contains("A &lt; B &amp; &quot;C&quot;") && svg.contains("a&lt;b") && !svg.contains("a<b"));
    }

    #[test]
    fn sums_are_drawn_before_what_they_would_cover() {
        let lower = series("lower", true, &[(0.0, 1.0), (1.0, 1.0)]);
        let upper = series("upper", true, &[(0.0, 3.0), (1.0, 3.0)]);
        let svg = plot(vec![lower, upper]).svg().unwrap();
        let place = |colour: &str| svg.find(&format!("<polygon fill=\"{colour}\"")).unwrap();
        assert!(place(COLOURS[1]) < place(COLOURS[0]));
    }

    #[test]
    fn a_mark_is_a_line_and_a_number_that_is_explained() {
        let mut plot = plot(vec![series("ours", false, &[(0.0, 1.0), (100.0, 2.0)])]);
        plot.marks = vec![Mark { at: 50.0, text: "one is killed".to_owned() }];
        let svg = plot.svg().unwrap();
        assert!(svg.contains("x1=\"408.0\" y1=\"60\" x2=\"408.0\""), "{svg}");
        assert!(svg.contains(">1</text>") && svg.contains(">1: one is killed (50.0)</text>"), "{svg}");
    }

    #[test]
    fn what_is_dashed_is_not_taken_for_the_others() {
        let one = |dashed| Series { dashed, ..series("ours", false, &[(0.0, 1.0), (1.0, 2.0)]) };
        let dashes = |all: Vec<Series>| plot(all).svg().unwrap().matches("stroke-dasharray=\"6 4\"").count();
        assert_eq!((dashes(vec![one(false)]), dashes(vec![one(false), one(true)])), (0, 1));
    }

    #[test]
    fn long_names_have_lines_of_their_own() {
        let height = |name: &str| {
            let all = ["a", name].map(|name| series(name, false, &[(0.0, 1.0), (1.0, 2.0)]));
            plot(all.into()).svg().unwrap().split_once("viewBox=\"0 0 760 ").unwrap().1[..3].to_owned()
        };
        assert_eq!((height("b").as_str(), height(&"b".repeat(50)).as_str()), ("456", "476"));
    }

    #[test]
    fn without_points_there_is_no_plot() {
        assert!(plot(vec![]).svg().is_none());
        assert!(plot(vec![series("ours", false, &[])]).svg().is_none());
    }
}
