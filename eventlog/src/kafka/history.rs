//! Reads both topics once. Consumers are told what to read; none joins the group, and nothing is written.

use super::{
    client::{Clients, Isolation, Reader, Role, left_until},
    errors::{open_code, open_error},
    feed::record,
    topic_reader::{LoadUntil, Offsets, Polled, known, list, poll, positions},
    topics::{self, FIRST_ANSWER},
};
use crate::{
    KafkaConfig, OpenError, Record,
    history::{History, HistoryAggregate, HistorySpan, Records},
    windows::FollowedWindow,
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
        let clients = Clients { config: config.clone(), keeps_windows: false };
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

impl KafkaHistory {
    /// The first offset of `span` whose record came at `since_ms` or later; its end where there is none.
    fn first_since(
        &self,
        topic: &str,
        partition: u32,
        since_ms: u64,
        span: &Range<u64>,
    ) -> Result<u64, OpenError> {
        let since = Offset::Offset(i64::try_from(since_ms).unwrap_or(i64::MAX));
        let asked = list(topic, &[partition], since)
            .and_then(|list| self.aggregates.offsets_for_times(list, FIRST_ANSWER))
            .and_then(|answer| known(&answer));
        let first = asked.map_err(|error| open_error(&format!("searching {topic}/{partition}"), &error))?;
        Ok(first.get(&partition).copied().unwrap_or(span.end).max(span.start))
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

    fn windows(
        &self,
        partition: u32,
        since_ms: u64,
    ) -> Result<Option<Records<'_, FollowedWindow>>, OpenError> {
        let (reader, topic) = (&self.aggregates, &self.config.windows_topic);
        let Some(partitions) = topics::size(reader, topic, &format!("asking for topic {topic}"))? else {
            return Ok(None);
        };
        if partitions != self.partitions {
            let text = format!("topic {topic} has {partitions} partitions, not {}", self.partitions);
            return Err(OpenError::Invalid(text));
        }
        let mut span = ends(reader, topic, partition)?;
        span.start = self.first_since(topic, partition, since_ms, &span)?;
        let take = move |message: &BorrowedMessage<'_>| {
            let room =
                message.key().and_then(|key| str::from_utf8(key).ok()).and_then(|key| key.parse().ok());
            let value = message.payload().map(Bytes::copy_from_slice).unwrap_or_default();
            Some(FollowedWindow { partition, offset: message.offset() as u64, room: room?, value })
        };
        let reading = Reading::start_at(reader, topic, partition, &span, take)?;
        Ok(Some(Box::new(reading.filter_map(Result::transpose))))
    }
}

/// One partition of one topic, up to an offset.
struct Reading<'a, F> {
    reader: &'a Reader,
    topic: &'a str,
    partition: u32,
    end: u64,
    until: LoadUntil,
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
        Self::assign(reader, topic, partition, span, Offset::Beginning, take)
    }

    /// The same from the start of `span` on.
    fn start_at(
        reader: &'a Reader,
        topic: &'a str,
        partition: u32,
        span: &Range<u64>,
        take: F,
    ) -> Result<Self, OpenError> {
        let start = Offset::Offset(i64::try_from(span.start).unwrap_or(i64::MAX));
        Self::assign(reader, topic, partition, span, start, take)
    }

    fn assign(
        reader: &'a Reader,
        topic: &'a str,
        partition: u32,
        span: &Range<u64>,
        start: Offset,
        take: F,
    ) -> Result<Self, OpenError> {
        list(topic, &[partition], start)
            .and_then(|list| reader.assign(&list))
            .map_err(|error| open_error(&format!("reading {topic}/{partition}"), &error))?;
        let (begins, ends): (Offsets, Offsets) =
            ([(partition, span.start)].into(), [(partition, span.end)].into());
        let until = LoadUntil::new(&begins, &ends, STALL, Instant::now());
        Ok(Self { reader, topic, partition, end: span.end, until, take })
    }

    /// The error that ends the reading.
    fn fail(&mut self, error: &KafkaError) -> OpenError {
        self.until.forget(self.partition);
        let Self { topic, partition, .. } = self;
        let text = match error {
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => "the records were deleted meanwhile; try again".to_owned(),
            KafkaError::MessageConsumption(code) if is_final(*code) => {
                return open_code(&format!("reading {topic}"), *code);
            }
            error => error.to_string(),
        };
        OpenError::Unavailable(format!("reading {topic}/{partition}: {text}"))
    }
}

impl<T, F: Fn(&BorrowedMessage<'_>) -> T> Iterator for Reading<'_, F> {
    type Item = Result<T, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.until.resume(Instant::now());
        while !self.until.is_done() {
            match poll(self.reader, Duration::from_millis(100)) {
                Ok(Polled::Record(message)) if message.partition() == self.partition as i32 => {
                    let offset = message.offset() as u64;
                    self.until.advance(self.partition, offset + 1);
                    return (offset < self.end).then(|| Ok((self.take)(&message)));
                }
                // What is left to the end are markers of transactions, or the response came from a replica that lags.
                Ok(Polled::End(partition)) if partition == self.partition => match positions(self.reader) {
                    Ok(positions) => positions.into_iter().for_each(|(partition, position)| {
                        self.until.advance(partition, position);
                    }),
                    Err(error) => return Some(Err(self.fail(&error))),
                },
                Err(error) => return Some(Err(self.fail(&error))),
                // Of the partition before.
                Ok(_) => {}
            }
            if let Err(why) = self.until.check(Instant::now()) {
                self.until.forget(self.partition);
                return Some(Err(OpenError::Unavailable(format!("reading {}: {why}", self.topic))));
            }
        }
        None
    }
}

fn is_final(code: RDKafkaErrorCode) -> bool {
    matches!(open_code("", code), OpenError::Invalid(_))
}
