//! When brokers take records again, told without the client library: whether that comes back in time is what is measured.

use futures_util::future::select_all;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// One try at one broker.
const TRY: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until one of the brokers has acknowledged a record of `topic` for all in-sync replicas, and says when.
pub async fn writable(bootstrap: &str, topic: &str, partitions: u32) -> Instant {
    let request = produce(topic, partitions);
    let tries = bootstrap.split(',').map(|broker| {
        let request = &request;
        Box::pin(async move {
            while !matches!(timeout(TRY, ask(broker, request, topic, partitions)).await, Ok(Some(()))) {
                sleep(PAUSE).await;
            }
            Instant::now()
        })
    });
    let (first, ..) = timeout(super::wait::PATIENCE, select_all(tries)).await.expect("brokers come back");
    first
}

/// Sends the request; `None` unless a partition took it.
async fn ask(broker: &str, request: &[u8], topic: &str, partitions: u32) -> Option<()> {
    let mut stream = TcpStream::connect(broker).await.ok()?;
    stream.write_all(request).await.ok()?;
    let mut answer = vec![0; stream.read_u32().await.ok()? as usize];
    stream.read_exact(&mut answer).await.ok()?;
    // Correlation, count of topics, name, count of partitions; then for each: index, error, offset, time.
    let of_partitions = answer.get(4 + 4 + 2 + topic.len() + 4..)?;
    let mut errors = of_partitions.chunks(4 + 2 + 8 + 8).take(partitions as usize);
    errors.any(|partition| partition.get(4..6) == Some(&[0, 0])).then_some(())
}

/// A Produce request (version 3) with one record for each partition. A broker refuses those that it doesn't lead.
fn produce(topic: &str, partitions: u32) -> Vec<u8> {
    const PRODUCE: (u16, u16) = (0, 3);
    let batch = record_batch();
    let mut request = Vec::new();
    request.extend(PRODUCE.0.to_be_bytes());
    request.extend(PRODUCE.1.to_be_bytes());
    request.extend(7_u32.to_be_bytes());
    // No name of a client, no transaction, acks=all, within a second.
    request.extend((-1_i16).to_be_bytes());
    request.extend((-1_i16).to_be_bytes());
    request.extend((-1_i16).to_be_bytes());
    request.extend(1_000_u32.to_be_bytes());
    request.extend(1_u32.to_be_bytes());
    request.extend((topic.len() as u16).to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend(partitions.to_be_bytes());
    for partition in 0..partitions {
        request.extend(partition.to_be_bytes());
        request.extend((batch.len() as u32).to_be_bytes());
        request.extend(&batch);
    }
    [&(request.len() as u32).to_be_bytes()[..], &request].concat()
}

/// A batch (magic 2) of one record, which has one byte.
fn record_batch() -> Vec<u8> {
    let mut checked = Vec::new();
    // Attributes, last offset; first and last time; no producer, epoch, or sequence; one record.
    checked.extend([0; 2 + 4 + 8 + 8]);
    checked.extend([0xff; 8 + 2 + 4]);
    checked.extend(1_u32.to_be_bytes());
    // Length 7; attributes, time, offset; no key; a value of one byte; no headers. Numbers are zigzag.
    checked.extend([14, 0, 0, 0, 1, 2, b'x', 0]);
    let mut batch = Vec::new();
    batch.extend(0_u64.to_be_bytes());
    batch.extend((4 + 1 + 4 + checked.len() as u32).to_be_bytes());
    batch.extend([0, 0, 0, 0, 2]);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1)))
    })
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
