//! The same result, computed by one thread from the CSV files alone.

use std::collections::BTreeMap;

use crate::Result;
use crate::data::Flight;

/// Flights and minutes of delay of one airport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Airport {
    pub count: i64,
    pub delay_sum: i64,
}

/// All airports by IATA code, and the late flights in the order of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub airports: BTreeMap<String, Airport>,
    pub late: Vec<String>,
}

/// Goes through the flights once.
pub fn compute(lines: &[String]) -> Result<Summary> {
    let mut summary = Summary::default();
    for line in lines {
        let flight = Flight::parse(line)?;
        let airport = summary.airports.entry(flight.origin.to_owned()).or_default();
        airport.count += 1;
        airport.delay_sum += flight.delay_min;
        if flight.is_late() {
            summary.late.push(line.clone());
        }
    }
    Ok(summary)
}

impl Summary {
    /// The ten airports with the most departures; equal ones by code.
    pub fn busiest(&self) -> Vec<(&str, Airport)> {
        let mut all: Vec<_> = self.airports.iter().map(|(iata, airport)| (iata.as_str(), *airport)).collect();
        all.sort_by_key(|(iata, airport)| (-airport.count, *iata));
        all.truncate(10);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn data() -> Vec<String> {
        crate::data::flights(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../data")).unwrap()
    }

    #[test]
    fn the_data_has_20_000_flights_whose_counts_add_up() {
        let lines = data();
        assert_eq!(lines.len(), 20_000);
        let summary = compute(&lines).unwrap();
        assert_eq!(summary.airports.values().map(|airport| airport.count).sum::<i64>(), 20_000);
        assert!(summary.late.len() > 100 && summary.late.len() < 5_000);
    }

    #[test]
    fn the_ten_busiest_airports_are_in_order_and_have_names() {
        let summary = compute(&data()).unwrap();
        let names =
            crate::data::airport_names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../data")).unwrap();
        let busiest = summary.busiest();
        assert_eq!(busiest.len(), 10);
        assert!(busiest.windows(2).all(|pair| pair[0].1.count >= pair[1].1.count));
        assert!(busiest.iter().all(|(iata, _)| names.contains_key(*iata)));
    }
}
