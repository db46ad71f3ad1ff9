//! Reads both topics once. Consumers are told what to read; none joins the group, and nothing is written.

use super::{
    client::{Clients, Isolation, Reader, Role, left_until},
    errors::{open_code, open_error},
    feed::record,
    state::list,
    topics::{self, FIRST_ANSWER},
};
use crate::{
    KafkaConfig, OpenError, Record,
    history::{History, HistoryAggregate, HistorySpan, Records},
};
use bytes::Bytes;
use rdkafka::{
    Message, Offset,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// How long brokers may be silent in the middle of it.
const STALL: Duration = Duration::from_secs(30);

/// Two topics, to be read once.
pub(crate) struct KafkaHistory {
    config: KafkaConfig,
    /// Of each topic one, so that both can be read side by side.
    reactions: Reader,
    aggregates: Reader,
    partitions: u32,
}

impl KafkaHistory {
    pub(crate) fn open(config: &KafkaConfig) -> Result<Self, OpenError> {
        let clients = Clients { config: config.clone() };
        let reactions = clients.reader(Role::Loader, Isolation::Committed)?;
        let aggregates = clients.reader(Role::Loader, Isolation::Committed)?;
        let partitions = size(&reactions, config, &config.reactions_topic)?;
        let rolled_up = size(&aggregates, config, &config.aggregates_topic)?;
        if partitions != rolled_up {
            return Err(OpenError::Invalid(format!(
                "topic {} has {partitions} partitions and topic {} has {rolled_up}: they don't belong together",
                config.reactions_topic, config.aggregates_topic
            )));
        }
        Ok(Self { config: config.clone(), reactions, aggregates, partitions })
    }
}

/// How many partitions a topic has, which has to be there.
fn size(reader: &Reader, config: &KafkaConfig, topic: &str) -> Result<u32, OpenError> {
    let doing = format!("asking {} for topic {topic}", config.brokers);
    let size = topics::size(reader, topic, &doing)?;
    size.ok_or_else(|| OpenError::Invalid(format!("topic {topic} does not exist")))
}

/// The oldest and the next offset of committed records.
fn ends(reader: &Reader, topic: &str, partition: u32) -> Result<Range<u64>, OpenError> {
    let deadline = Instant::now() + STALL;
    loop {
        match reader.fetch_watermarks(topic, partition as i32, left_until(deadline).min(FIRST_ANSWER)) {
            Ok((begin, end)) => return Ok(begin.max(0) as u64..end.max(0) as u64),
            // A leader may be about to change.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => {
                return Err(open_error(&format!("asking for the ends of {topic}/{partition}"), &error));
            }
        }
    }
}

impl History for KafkaHistory {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn size(&self) -> Result<u64, OpenError> {
        (0..self.partitions).try_fold(0, |size, partition| {
            let HistorySpan { aggregates, reactions, .. } = self.span(partition)?;
            Ok(size + (aggregates.end - aggregates.start) + (reactions.end - reactions.start))
        })
    }

    fn span(&self, partition: u32) -> Result<HistorySpan, OpenError> {
        // In this order: the windows that are committed now are made of reactions that are there now.
        let aggregates = ends(&self.aggregates, &self.config.aggregates_topic, partition)?;
        let reactions = ends(&self.reactions, &self.config.reactions_topic, partition)?;
        Ok(HistorySpan { aggregates, reactions, committed: None })
    }

    fn aggregates<'a>(
        &'a self,
        partition: u32,
        span: &HistorySpan,
    ) -> Result<Records<'a, HistoryAggregate>, OpenError> {
        let topic = &self.config.aggregates_topic;
        let reading = Reading::start(&self.aggregates, topic, partition, &span.aggregates, |message| {
            let key = message.key().and_then(|key| str::from_utf8(key).ok());
            HistoryAggregate {
                offset: message.offset() as u64,
                room: key.and_then(|key| key.parse().ok()),
                value: message.payload().map(Bytes::copy_from_slice),
            }
        })?;
        Ok(Box::new(reading))
    }

    fn reactions<'a>(&'a self, partition: u32, span: &HistorySpan) -> Result<Records<'a, Record>, OpenError> {
        let topic = &self.config.reactions_topic;
        let reading = Reading::start(&self.reactions, topic, partition, &span.reactions, record)?;
        Ok(Box::new(reading))
    }
}

/// One partition of one topic, up to an offset.
struct Reading<'a, F> {
    reader: &'a Reader,
    topic: &'a str,
    partition: u32,
    /// The offset that comes next, as far as is known.
    next: u64,
    end: u64,
    take: F,
}

impl<'a, T, F: Fn(&BorrowedMessage<'_>) -> T> Reading<'a, F> {
    fn start(
        reader: &'a Reader,
        topic: &'a str,
        partition: u32,
        span: &Range<u64>,
        take: F,
    ) -> Result<Self, OpenError> {
        // From the oldest record as it is now: some may have been deleted since the span was asked for.
        list(topic, &[partition], Offset::Beginning)
            .and_then(|list| reader.assign(&list))
            .map_err(|error| open_error(&format!("reading {topic}/{partition}"), &error))?;
        Ok(Self { reader, topic, partition, next: span.start, end: span.end, take })
    }

    fn failed(&self, why: &str) -> OpenError {
        let Self { topic, partition, next, end, .. } = self;
        OpenError::Unavailable(format!("reading {topic}/{partition}, at {next} of {end}: {why}"))
    }
}

impl<T, F: Fn(&BorrowedMessage<'_>) -> T> Iterator for Reading<'_, F> {
    type Item = Result<T, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        let deadline = Instant::now() + STALL;
        while self.next < self.end {
            match self.reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) if message.partition() == self.partition as i32 => {
                    self.next = message.offset() as u64 + 1;
                    return (self.next <= self.end).then(|| Ok((self.take)(&message)));
                }
                // What is left to the end are markers of transactions.
                Some(Err(KafkaError::PartitionEOF(partition))) if partition == self.partition as i32 => {
                    self.next = self.end;
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    self.next = self.end;
                    return Some(Err(self.failed(&code.to_string())));
                }
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                ))) => {
                    return Some(Err(self.failed("the records were deleted meanwhile; try again")));
                }
                Some(Err(KafkaError::MessageConsumption(code))) if is_final(code) => {
                    return Some(Err(open_code(&format!("reading {}", self.topic), code)));
                }
                // Of the partition before; or an error that the client gets over by itself.
                Some(_) | None => {}
            }
            if Instant::now() >= deadline {
                let why = format!("nothing came for {} s; are the brokers there?", STALL.as_secs());
                return Some(Err(self.failed(&why)));
            }
        }
        None
    }
}

fn is_final(code: RDKafkaErrorCode) -> bool {
    matches!(open_code("", code), OpenError::Invalid(_))
}
