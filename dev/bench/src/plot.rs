//! Bars, as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LABEL: f64 = 250.0;
const ROW: f64 = 24.0;

/// A chart of horizontal bars, shorter is better or not as the title says. Ours are darker.
pub(crate) fn bars(title: &str, rows: &[(String, f64)]) -> String {
    let most = rows.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
    let height = (rows.len() as f64).mul_add(ROW, 44.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"8\" y=\"22\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    let mut y = 36.0;
    for (name, value) in rows {
        let length = value / most * (WIDTH - LABEL - 90.0);
        let colour = if name.starts_with("ours") { "#1b6ca8" } else { "#b8c4ce" };
        // Writing to a string can't fail.
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABEL}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"16\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LABEL - 8.0,
            y + 13.0,
            escape(name),
            LABEL + length + 6.0,
            y + 13.0,
            number(*value),
        );
        y += ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

/// Lines over time, each scaled to its own greatest value.
pub(crate) fn lines(title: &str, series: &[(&str, Vec<(f64, f64)>)]) -> String {
    let colours = ["#1b6ca8", "#c0392b", "#27ae60", "#8e44ad"];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"320\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"8\" y=\"22\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    let end = series.iter().flat_map(|(_, points)| points).map(|(x, _)| *x).fold(f64::MIN_POSITIVE, f64::max);
    let mut legend = 40.0;
    for ((name, points), colour) in series.iter().zip(colours) {
        let most = points.iter().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| {
                format!(
                    "{:.1},{:.1}",
                    (x / end).mul_add(WIDTH - 20.0, 10.0),
                    (y / most).mul_add(-200.0, 310.0)
                )
            })
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\
             <text x=\"10\" y=\"{legend}\" fill=\"{colour}\">{} (top: {})</text>",
            path.join(" "),
            escape(name),
            number(most),
        );
        legend += 16.0;
    }
    svg.push_str("</svg>\n");
    svg
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "–".to_owned(),
        value if value >= 100.0 || value == value.trunc() => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([1234.4, 12.345, 1.234, 3.0, 0.5].map(number), ["1234", "12.3", "1.23", "3", "0.50"]);
    }

    #[test]
    fn a_chart_has_a_bar_for_each_row() {
        let svg = bars("a < b", &[("ours".into(), 1.0), ("x".into(), 2.0)]);
        assert_eq!((svg.matches("height=\"16\"").count(), svg.contains("a &lt; b")), (2, true));
    }
}
