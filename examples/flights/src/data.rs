//! The two CSV files.

use std::collections::HashMap;
use std::path::Path;

use crate::Result;

/// More minutes of delay than this make a flight late.
pub const LATE_MIN: i64 = 60;

/// What the example needs of a line of `flights.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight<'a> {
    pub origin: &'a str,
    pub delay_min: i64,
}

impl<'a> Flight<'a> {
    /// Reads `date,origin,destination,distance_mi,delay_min`.
    pub fn parse(line: &'a str) -> Result<Flight<'a>> {
        let fields: Vec<&str> = line.split(',').collect();
        let [_date, origin, _destination, _distance, delay] = fields[..] else {
            return Err(format!("a flight has 5 fields, this line has {}: {line}", fields.len()).into());
        };
        let delay_min = delay.parse().map_err(|error| format!("delay of {line}: {error}"))?;
        Ok(Flight { origin, delay_min })
    }

    /// Whether it goes to the store.
    pub fn is_late(&self) -> bool {
        self.delay_min > LATE_MIN
    }
}

/// The lines of `flights.csv` without its head.
pub fn flights(directory: &Path) -> Result<Vec<String>> {
    let path = directory.join("flights.csv");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().skip(1).map(str::to_owned).collect())
}

/// Names of the airports by IATA code.
pub fn airport_names(directory: &Path) -> Result<HashMap<String, String>> {
    let path = directory.join("airports.csv");
    let mut reader = csv::Reader::from_path(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut names = HashMap::new();
    for record in reader.records() {
        let record = record?;
        if let (Some(iata), Some(name)) = (record.get(0), record.get(1)) {
            names.insert(iata.to_owned(), name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_origin_and_delay_and_a_bad_one_an_error() {
        let flight = Flight::parse("2001/01/01 00:47,DTW,LAS,1750,66").unwrap();
        assert_eq!(flight, Flight { origin: "DTW", delay_min: 66 });
        assert!(flight.is_late());
        assert!(!Flight::parse("2001/01/01 01:24,LAS,OAK,407,-5").unwrap().is_late());
        assert!(Flight::parse("2001/01/01 00:47,DTW").is_err());
        assert!(Flight::parse("2001/01/01 00:47,DTW,LAS,1750,soon").is_err());
    }
}
