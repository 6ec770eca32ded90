//! `flights-publish`: one message for each flight, paced, then the end marker.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use memora::Fabric;
use memora_flights::{Result, data, names};

/// Publishes the flights on the channel `flights` of a fabric.
#[derive(Parser)]
struct Arguments {
    /// Fabric
    #[arg(long)]
    fabric: String,
    /// Directory of flights.csv
    #[arg(long)]
    data: PathBuf,
    /// Over how many seconds to spread the flights (back-pressure may make it longer)
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let flights = data::flights(&arguments.data)?;
    let fabric = Fabric::open(&arguments.fabric)?;
    let channel = fabric.channel(names::CHANNEL, &memora_flights::channel_options())?;
    let mut publisher = channel.publisher()?;
    let mut progress = std::io::stdout().lock();
    let started = Instant::now();
    let pause = Duration::from_secs_f64(arguments.seconds / flights.len().max(1) as f64);
    for (index, flight) in flights.iter().enumerate() {
        publisher.send(flight.as_bytes())?;
        let sent = index + 1;
        if sent % 50 == 0 {
            // The one who started us reads this; without a reader the publishing goes on.
            let _ = writeln!(progress, "sent {sent}").and_then(|()| progress.flush());
            std::thread::sleep((pause * sent as u32).saturating_sub(started.elapsed()));
        }
    }
    publisher.send(names::END)?;
    Ok(())
}
