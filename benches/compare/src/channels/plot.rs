//! The picture of the figures: a panel for each kind of row, a group of bars for each size, a colour for each contestant.

use std::path::Path;

use plotters::prelude::*;

use super::{CONTESTANTS, Cell, SIZES};

const PANELS: [(&str, &str); 3] = [
    ("rate", "one way, million messages a second, of 64 KiB thousands (log)"),
    ("spin", "round trip, both polling, median ns (log)"),
    ("block", "round trip, both asleep, median ns (log)"),
];
const WIDTH: u32 = 1100;
const PANEL_HEIGHT: u32 = 300;
const LEGEND_HEIGHT: u32 = 84;

const COLOURS: [RGBColor; 13] = [
    RGBColor(179, 27, 27),
    RGBColor(224, 102, 76),
    RGBColor(243, 168, 121),
    RGBColor(31, 78, 121),
    RGBColor(74, 134, 190),
    RGBColor(143, 184, 222),
    RGBColor(60, 120, 80),
    RGBColor(120, 120, 120),
    RGBColor(185, 185, 185),
    RGBColor(122, 75, 140),
    RGBColor(190, 152, 205),
    RGBColor(150, 120, 40),
    RGBColor(214, 190, 110),
];
const _: () = assert!(COLOURS.len() >= CONTESTANTS.len(), "each contestant has a colour");

/// Draws it; a picture that cannot be written is said, and nothing else.
pub fn draw(file: &Path, cells: &[Cell]) {
    match try_draw(file, cells) {
        Ok(()) => println!("picture: {}", file.display()),
        Err(error) => eprintln!("no picture {}: {error}", file.display()),
    }
}

fn try_draw(file: &Path, cells: &[Cell]) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let height = PANEL_HEIGHT * PANELS.len() as u32 + LEGEND_HEIGHT;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (panels, legend) = root.split_vertically(PANEL_HEIGHT * PANELS.len() as u32);
    for ((case, title), area) in PANELS.into_iter().zip(panels.split_evenly((PANELS.len(), 1))) {
        panel(&area, case, title, cells)?;
    }
    for (place, contestant) in CONTESTANTS.iter().enumerate() {
        let (x, y) = (60 + (place as i32 % 5) * 205, 8 + (place as i32 / 5) * 24);
        legend.draw(&Rectangle::new([(x, y), (x + 14, y + 14)], COLOURS[place].filled()))?;
        legend.draw(&Text::new(contestant.title, (x + 20, y + 1), ("sans-serif", 14)))?;
    }
    root.present()?;
    Ok(())
}

fn panel<D: DrawingBackend>(
    area: &DrawingArea<D, plotters::coord::Shift>,
    case: &str,
    title: &str,
    cells: &[Cell],
) -> Result<(), Box<dyn std::error::Error>>
where
    D::ErrorType: 'static,
{
    let value = |size: usize, title: &str| {
        let found = cells.iter().find(|cell| cell.case == case && cell.size == size && cell.title == title);
        found
            .filter(|cell| cell.missing.is_none())
            .map(|cell| &cell.samples)
            .filter(|it| it.median().is_finite())
    };
    let all: Vec<f64> = cells
        .iter()
        .filter(|cell| cell.case == case)
        .flat_map(|cell| [cell.samples.low(), cell.samples.high()])
        .filter(|value| value.is_finite() && *value > 0.0)
        .collect();
    let Some(least) = all.iter().copied().reduce(f64::min) else { return Ok(()) };
    let most = all.iter().copied().fold(least, f64::max);
    let (low, high) = (least / 2.0, most * 2.0);
    let width = CONTESTANTS.len() as f64 + 1.0;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..SIZES.len() as f64 * width, (low..high).log_scale())?;
    chart.configure_mesh().disable_x_mesh().disable_x_axis().light_line_style(WHITE).draw()?;
    for (group, size) in SIZES.into_iter().enumerate() {
        let start = group as f64 * width + 0.5;
        for (place, contestant) in CONTESTANTS.iter().enumerate() {
            let Some(samples) = value(size, contestant.title) else { continue };
            let (left, right) = (start + place as f64, start + place as f64 + 0.9);
            let middle = (left + right) / 2.0;
            chart.draw_series([Rectangle::new(
                [(left, low), (right, samples.median())],
                COLOURS[place].filled(),
            )])?;
            // From the lowest to the highest sample.
            chart.draw_series([PathElement::new(
                vec![(middle, samples.low()), (middle, samples.high())],
                BLACK,
            )])?;
        }
        let label = if size >= 1024 { format!("{} KiB", size / 1024) } else { format!("{size} B") };
        let (x, y) = chart.backend_coord(&(start + width / 2.0 - 1.0, low));
        let (base_x, base_y) = area.get_base_pixel();
        area.draw(&Text::new(label, (x - base_x, y - base_y + 6), ("sans-serif", 14)))?;
    }
    Ok(())
}
