//! Compares what the processes left in the fabric with the computation in a single thread.

use std::collections::{BTreeMap, HashMap};

use memora::{Cache, Store};

use crate::Result;
use crate::reference::{Airport, Summary};

/// Reads the airports from the cache, each value `count delay_sum last_position`.
pub fn airports(cache: &Cache) -> Result<BTreeMap<String, Airport>> {
    let mut airports = BTreeMap::new();
    let mut bad = None;
    let mut cursor = 0;
    loop {
        cursor = cache.scan(cursor, 256, |key, entry| {
            let iata = String::from_utf8_lossy(key).into_owned();
            match parse(&entry.value) {
                Some(airport) => _ = airports.insert(iata, airport),
                None => bad = Some(format!("{iata} -> {}", String::from_utf8_lossy(&entry.value))),
            }
        })?;
        if cursor == 0 {
            break;
        }
    }
    match bad {
        None => Ok(airports),
        Some(entry) => {
            Err(format!("the cache has an entry that is not `count delay_sum last_position`: {entry}").into())
        }
    }
}

fn parse(value: &[u8]) -> Option<Airport> {
    let text = std::str::from_utf8(value).ok()?;
    let numbers: Vec<i64> = text.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [count, delay_sum, _last_position] = numbers[..] else { return None };
    Some(Airport { count, delay_sum })
}

/// Reads the late flights from the store.
pub fn late(store: &Store) -> Result<Vec<String>> {
    let mut late = Vec::new();
    let mut cursor = 0;
    loop {
        cursor = store
            .scan(cursor, 256, |_key, entry| late.push(String::from_utf8_lossy(&entry.value).into_owned()))?;
        if cursor == 0 {
            break;
        }
    }
    Ok(late)
}

/// All differences, in words; none means that the results are equal.
pub fn differences(summary: &Summary, airports: &BTreeMap<String, Airport>, late: &[String]) -> Vec<String> {
    let mut differences = Vec::new();
    for (iata, expected) in &summary.airports {
        match airports.get(iata) {
            Some(found) if found == expected => {}
            Some(found) => {
                differences.push(format!("{iata}: cache has {found:?}, single thread {expected:?}"))
            }
            None => differences.push(format!("{iata}: missing in the cache")),
        }
    }
    for iata in airports.keys().filter(|iata| !summary.airports.contains_key(*iata)) {
        differences.push(format!("{iata}: in the cache, but no flight starts there"));
    }
    let mut expected = summary.late.clone();
    let mut found = late.to_vec();
    expected.sort();
    found.sort();
    if expected != found {
        differences.push(format!(
            "late flights: {} in the store, {} by single thread",
            found.len(),
            expected.len()
        ));
    }
    differences
}

/// What is wrong in the report of the second JVM, in words: the ten busiest airports in order, each on a line with code,
/// name, number of flights and mean delay, and the number of late flights.
pub fn report(summary: &Summary, names: &HashMap<String, String>, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut rest = text;
    for (iata, airport) in summary.busiest() {
        let name = names.get(iata).map_or(iata, String::as_str);
        let line = rest.lines().find(|line| line.split_whitespace().any(|word| word == iata));
        let Some(line) = line else {
            wrong.push(format!("{iata} is missing in the report, or not in its place"));
            continue;
        };
        if !line.contains(name) {
            wrong.push(format!("{iata}: the report lacks its name {name}: {line}"));
        }
        if !line.split_whitespace().any(|word| digits(word) == airport.count.to_string()) {
            wrong.push(format!("{iata}: the report lacks its {} flights: {line}", airport.count));
        }
        let mean = airport.delay_sum as f64 / airport.count as f64;
        if !line.split_whitespace().any(|word| is_rounded(word, mean)) {
            wrong.push(format!("{iata}: the report lacks its mean delay of {mean} minutes: {line}"));
        }
        let end = rest.find(line).map_or(rest.len(), |at| at + line.len());
        rest = &rest[end..];
    }
    if !rest.split_whitespace().any(|word| digits(word) == summary.late.len().to_string()) {
        wrong.push(format!("the report lacks the {} late flights", summary.late.len()));
    }
    wrong
}

/// A number without the separators of thousands.
fn digits(word: &str) -> String {
    word.replace(',', "")
}

/// Whether a word with decimals is this number, rounded to as many.
fn is_rounded(word: &str, number: f64) -> bool {
    let Some((_, decimals)) = word.split_once('.') else { return false };
    let half = 0.5 * 10f64.powi(-(decimals.len() as i32));
    word.parse::<f64>().is_ok_and(|shown| (shown - number).abs() <= half + 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let lines = ["d,AAA,B,1,61", "d,AAA,B,1,-1", "d,CCC,B,1,5"].map(str::to_owned);
        crate::reference::compute(&lines).unwrap()
    }

    #[test]
    fn equal_results_have_no_differences() {
        let summary = summary();
        assert_eq!(differences(&summary, &summary.airports, &summary.late), Vec::<String>::new());
    }

    #[test]
    fn a_flight_counted_twice_or_lost_or_invented_is_found() {
        let summary = summary();
        let mut airports = summary.airports.clone();
        airports.get_mut("AAA").unwrap().count += 1;
        airports.remove("CCC");
        airports.insert("XXX".to_owned(), Airport::default());
        let twice = [summary.late.clone(), summary.late.clone()].concat();
        assert_eq!(differences(&summary, &airports, &twice).len(), 4);
    }

    #[test]
    fn values_of_the_cache_are_three_numbers() {
        assert_eq!(parse(b"3 -7 4096"), Some(Airport { count: 3, delay_sum: -7 }));
        assert_eq!(parse(b"3 -7"), None);
        assert_eq!(parse(b"3 x 1"), None);
    }

    #[test]
    fn a_report_with_a_wrong_count_mean_order_or_name_is_found() {
        let summary = summary();
        let names =
            HashMap::from([("AAA".to_owned(), "Alpha".to_owned()), ("CCC".to_owned(), "Gamma".to_owned())]);
        let good = "AAA Alpha 2 30.0\nCCC Gamma 1 5.0\n1 late\n";
        assert_eq!(report(&summary, &names, good), Vec::<String>::new());
        for bad in [
            good.replace(" 2 ", " 3 "),
            good.replace("30.0", "30.1"),
            good.replace("Gamma", "Delta"),
            good.replace("1 late", "2 late"),
            "CCC Gamma 1 5.0\nAAA Alpha 2 30.0\n1 late\n".to_owned(),
        ] {
            assert_ne!(report(&summary, &names, &bad), Vec::<String>::new(), "{bad}");
        }
    }
}
