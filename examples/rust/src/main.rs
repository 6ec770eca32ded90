//! The smallest example: a cache and a channel of the fabric `hello`, which every process of this host can share.

use std::time::Duration;

use memora::{ChannelOptions, Fabric};

fn main() -> memora::Result<()> {
    let fabric = Fabric::open("hello")?;

    let prices = fabric.cache("prices")?;
    prices.set(b"EURUSD", b"1.0871")?;
    let price = prices.get(b"EURUSD")?.unwrap_or_default();
    println!("EURUSD {}", String::from_utf8_lossy(&price));

    let news = fabric.channel("news", &ChannelOptions::default())?;
    let mut subscriber = news.subscriber()?;
    news.publisher()?.send(b"markets are open")?;
    let mut message = Vec::new();
    subscriber.recv(&mut message, Some(Duration::from_secs(1)))?;
    println!("news: {}", String::from_utf8_lossy(&message));
    Ok(())
}
