//! Plots as SVG within a page: lines over time, and bars by name.

use crate::document::escape;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 26.0;
const TOP: f64 = 12.0;
/// For the names of lines.
const RIGHT: f64 = 110.0;
/// Of a line: a run of hours has more looks than a page has dots.
const POINTS_MAX: usize = 300;
const BAR_HEIGHT: f64 = 18.0;
const BAR_LEFT: f64 = 150.0;
/// Told apart by people who do not see all colours (Okabe and Ito).
const COLORS: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999"];

#[derive(Debug)]
pub struct Line {
    pub name: String,
    /// Seconds, and the figure then.
    pub points: Vec<(f64, f64)>,
}

pub fn lines(unit: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (last, most) = (points().fold(1.0, |most, (x, _)| x.max(most)), points().fold(0.0, |most, (_, y)| y.max(most)));
    let top = round_up(most);
    let x = |seconds: f64| LEFT + (WIDTH - LEFT - RIGHT) * seconds / last;
    let y = |figure: f64| HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * figure / top;
    let mut svg = open(HEIGHT, unit);
    for quarter in 0..=4 {
        let figure = top * f64::from(quarter) / 4.0;
        svg += &format!(
            "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"currentColor\" opacity=\".15\"/>\
             <text x=\"{3:.0}\" y=\"{2:.1}\" dy=\"4\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            short(figure),
            y(figure),
            LEFT - 6.0
        );
        let seconds = last * f64::from(quarter) / 4.0;
        let (place, base) = (x(seconds), HEIGHT - 8.0);
        svg += &format!("<text x=\"{place:.0}\" y=\"{base:.0}\" text-anchor=\"middle\">{seconds:.0} s</text>");
    }
    for (place, line) in lines.iter().enumerate() {
        let color = color(place);
        let path =
            thinned(&line.points).into_iter().map(|(seconds, figure)| format!("{:.1},{:.1}", x(seconds), y(figure)));
        let path = path.collect::<Vec<_>>().join(" ");
        let (name, below) = (escape(&line.name), TOP + 14.0 * (place as f64 + 0.6));
        svg += &format!(
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\"/>\
             <text x=\"{:.0}\" y=\"{below:.0}\" fill=\"{color}\">{name}</text>",
            WIDTH - RIGHT + 8.0
        );
    }
    svg + "</svg>"
}

/// The means of as many neighbours as it takes.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |near: &[(f64, f64)]| {
        let count = near.len() as f64;
        let sum = near.iter().fold((0.0, 0.0), |sum, (x, y)| (sum.0 + x, sum.1 + y));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(points.len().div_ceil(POINTS_MAX).max(1)).map(mean).collect()
}

/// By name, up to three figures that grow, such as quantiles: bars within each other, the longest the palest.
pub fn bars(unit: &str, bars: &[(String, Vec<f64>)]) -> String {
    let most = bars.iter().flat_map(|(_, figures)| figures).fold(0.0_f64, |most, figure| figure.max(most));
    let height = BAR_HEIGHT * bars.len() as f64 + 2.0 * TOP;
    let mut svg = open(height, unit);
    for (row, (name, figures)) in bars.iter().enumerate() {
        let top = TOP + BAR_HEIGHT * row as f64;
        let middle = top + BAR_HEIGHT / 2.0 + 4.0;
        let told = figures.iter().map(|figure| short(*figure)).collect::<Vec<_>>().join(" / ");
        let length = |figure: f64| (WIDTH - BAR_LEFT - RIGHT) * figure / most.max(f64::MIN_POSITIVE);
        for (place, figure) in figures.iter().enumerate().rev() {
            let opacity = [1.0, 0.55, 0.25].get(place).copied().unwrap_or(0.25);
            svg += &format!(
                "<rect x=\"{BAR_LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" opacity=\"{opacity}\"/>",
                top + 2.0,
                length(*figure),
                BAR_HEIGHT - 4.0,
                color(0)
            );
        }
        let end = BAR_LEFT + length(figures.last().copied().unwrap_or(0.0)) + 6.0;
        svg += &format!(
            "<text x=\"{:.0}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{end:.0}\" y=\"{middle:.1}\">{told}</text>",
            BAR_LEFT - 6.0,
            escape(name)
        );
    }
    svg + "</svg>"
}

fn open(height: f64, unit: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\" font-size=\"11\" fill=\"currentColor\">",
        escape(unit)
    )
}

fn color(place: usize) -> &'static str {
    COLORS.get(place % COLORS.len()).copied().unwrap_or("currentColor")
}

/// The next of 1, 2, 4, 5, 8 and 10, in any power of ten: fractions of it read well.
fn round_up(figure: f64) -> f64 {
    if figure <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(figure.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= figure).unwrap_or(10.0 * power)
}

/// With three digits or so.
pub fn short(figure: f64) -> String {
    match figure.abs() {
        large if large >= 100.0 => format!("{figure:.0}"),
        medium if medium >= 10.0 => format!("{figure:.1}"),
        0.0 => "0".to_owned(),
        tiny if tiny < 0.01 => format!("{figure:.3}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_a_plot_reads_well() {
        for (figure, top) in [(0.0, 1.0), (0.03, 0.04), (1.0, 1.0), (43.0, 50.0), (810.0, 1000.0)] {
            assert!((round_up(figure) - top).abs() < 1e-9, "{figure}");
        }
    }

    #[test]
    fn figures_have_three_digits_or_so() {
        let told = [1234.5, 99.94, 9.876, 0.94, 0.001, 0.0].map(short);
        assert_eq!(told, ["1234", "99.9", "9.88", "0.94", "0.001", "0"]);
    }

    #[test]
    fn a_long_line_is_drawn_by_means() {
        let points: Vec<_> = (0..14_400).map(|second| (f64::from(second), f64::from(second % 2))).collect();
        let drawn = thinned(&points);
        assert_eq!(drawn.len(), POINTS_MAX);
        assert_eq!(drawn.first(), Some(&(23.5, 0.5)));
        assert_eq!(thinned(&points[..POINTS_MAX]), points[..POINTS_MAX]);
        assert!(thinned(&[]).is_empty());
    }

    #[test]
    fn plots_of_nothing_and_of_something_are_whole() {
        let line = Line { name: "a<b".to_owned(), points: vec![(0.0, 1.0), (2.0, 3.0)] };
        for svg in [lines("x", &[]), lines("x", &[line]), bars("x", &[]), bars("x", &[("n".to_owned(), vec![0.0])])] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && !svg.contains("NaN"), "{svg}");
        }
    }
}
