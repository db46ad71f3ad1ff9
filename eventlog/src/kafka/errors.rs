//! What an error of librdkafka means for the caller.

use super::client::Undelivered;
use crate::{AppendError, OpenError};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// Why a client could not be made, or a first request failed.
pub(super) fn open_error(doing: &str, error: &KafkaError) -> OpenError {
    match error {
        // The value may be a secret: only the key is named.
        KafkaError::ClientConfig(_, text, key, _) => {
            OpenError::Invalid(format!("log.kafka.options: {key:?} is refused by librdkafka: {text}"))
        }
        KafkaError::ClientCreation(text) => {
            OpenError::Invalid(format!("librdkafka refuses its options: {text}"))
        }
        error => match error.rdkafka_error_code() {
            Some(code) => open_code(doing, code),
            None => OpenError::Unavailable(format!("{doing}: {error}")),
        },
    }
}

/// The same for a bare code.
pub(super) fn open_code(doing: &str, code: Code) -> OpenError {
    let text = format!("{doing}: {code}");
    match code {
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidGroupId
        | Code::InvalidTransactionTimeout
        | Code::InconsistentGroupProtocol
        | Code::InvalidSessionTimeout
        | Code::PolicyViolation
        | Code::UnsupportedVersion => OpenError::Invalid(text),
        _ => OpenError::Unavailable(text),
    }
}

/// Whether the client stops reading: of these offsets nothing can be read any more, such as those of a topic that was made anew.
pub(super) fn ends_reading(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumptionFatal(_)
            | KafkaError::MessageConsumption(
                Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation
            )
    )
}

/// Whether this client may not read, or the group does not take it: missing rights, the brokers' limits or other members keep it
/// out.
pub(super) fn keeps_out(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumption(
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::InvalidGroupId
                | Code::InconsistentGroupProtocol
                | Code::InvalidSessionTimeout
                | Code::GroupMaxSizeReached
        )
    )
}

/// Whether trying again is of no use.
pub(super) fn is_final(error: &KafkaError) -> bool {
    matches!(open_error("", error), OpenError::Invalid(_))
}

/// What the failure of a record means. The code of a delivery report proves nothing: it tells how the last attempt ended, and
/// an attempt before it may have written the record and lost its answer.
pub(super) fn append_error(undelivered: &Undelivered) -> AppendError {
    match undelivered {
        Undelivered::NotTaken(error) => AppendError::NotWritten(error.to_string()),
        Undelivered::Failed(error) => AppendError::Unknown(error.to_string()),
    }
}

/// What to do after a step of a transaction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The same step again.
    Again,
    /// Abort: nothing is written then. `stale`: because this member is no longer in the group's generation.
    Abort {
        /// The group has moved on.
        stale: bool,
    },
    /// Nothing can be done with this producer, and the outcome may be unknown.
    Reopen,
}

/// Whether the same step may succeed when it is tried again.
pub(super) fn is_again(error: &KafkaError) -> bool {
    remedy(error) == Remedy::Again
}

/// The remedy for an error of a transaction's step.
pub(super) fn remedy(error: &KafkaError) -> Remedy {
    match error {
        KafkaError::Transaction(error) => {
            remedy_of(error.code(), error.is_fatal(), error.txn_requires_abort(), error.is_retriable())
        }
        KafkaError::Flush(_) => Remedy::Again,
        _ => Remedy::Reopen,
    }
}

fn remedy_of(code: Code, fatal: bool, requires_abort: bool, retriable: bool) -> Remedy {
    let stale = matches!(
        code,
        Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::RebalanceInProgress
            | Code::FencedInstanceId
            | Code::FencedMemberEpoch
            | Code::StaleMemberEpoch
    );
    match () {
        () if fatal => Remedy::Reopen,
        () if requires_abort || stale => Remedy::Abort { stale },
        () if retriable => Remedy::Again,
        () => Remedy::Reopen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_that_the_library_did_not_take_is_surely_not_written() {
        for code in [
            Code::QueueFull,
            Code::MessageSizeTooLarge,
            Code::InvalidMessageSize,
            Code::MessageBatchTooLarge,
            Code::UnknownTopic,
            Code::UnknownPartition,
            Code::UnknownTopicOrPartition,
            Code::TopicAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::InvalidTopic,
            Code::InvalidRecord,
            Code::InvalidTimestamp,
            Code::InvalidRequiredAcks,
            Code::UnsupportedCompressionType,
            Code::PolicyViolation,
            Code::NotEnoughReplicas,
            Code::MessageTimedOut,
            Code::RequestTimedOut,
            Code::PurgeQueue,
            Code::PurgeInflight,
            Code::Fatal,
        ] {
            let error = || KafkaError::MessageProduction(code);
            let not_taken = append_error(&Undelivered::NotTaken(error()));
            assert!(matches!(not_taken, AppendError::NotWritten(_)), "{code}");
            let failed = append_error(&Undelivered::Failed(error()));
            assert!(matches!(failed, AppendError::Unknown(_)), "{code}");
        }
    }

    #[test]
    fn a_stale_generation_is_aborted_and_a_fenced_producer_is_given_up() {
        assert_eq!(remedy_of(Code::IllegalGeneration, false, true, false), Remedy::Abort { stale: true });
        assert_eq!(remedy_of(Code::UnknownMemberId, false, true, false), Remedy::Abort { stale: true });
        assert_eq!(remedy_of(Code::MessageTimedOut, false, true, false), Remedy::Abort { stale: false });
        assert_eq!(remedy_of(Code::Fenced, true, false, false), Remedy::Reopen);
        assert_eq!(remedy_of(Code::ProducerFenced, true, true, true), Remedy::Reopen);
        assert_eq!(remedy_of(Code::OperationTimedOut, false, false, true), Remedy::Again);
        assert_eq!(remedy_of(Code::State, false, false, false), Remedy::Reopen);
    }

    #[test]
    fn what_may_pass_neither_ends_reading_nor_keeps_a_member_out() {
        let read = KafkaError::MessageConsumption;
        for code in [Code::AutoOffsetReset, Code::OffsetOutOfRange, Code::LogTruncation] {
            assert!(ends_reading(&read(code)) && !keeps_out(&read(code)), "{code}");
        }
        assert!(ends_reading(&KafkaError::MessageConsumptionFatal(Code::FencedInstanceId)));
        for code in
            [Code::GroupAuthorizationFailed, Code::InconsistentGroupProtocol, Code::GroupMaxSizeReached]
        {
            assert!(keeps_out(&read(code)) && !ends_reading(&read(code)), "{code}");
        }
        for code in [Code::AllBrokersDown, Code::BrokerTransportFailure, Code::NotCoordinator] {
            assert!(!ends_reading(&read(code)) && !keeps_out(&read(code)), "{code}");
        }
    }

    #[test]
    fn a_request_is_repeated_until_somebody_must_change_something() {
        assert!(is_final(&KafkaError::OffsetFetch(Code::GroupAuthorizationFailed)));
        assert!(!is_final(&KafkaError::OffsetFetch(Code::OperationTimedOut)));
        assert!(!is_final(&KafkaError::Canceled));
    }

    #[test]
    fn what_somebody_must_change_is_invalid_and_what_may_pass_is_unavailable() {
        for code in [Code::TopicAuthorizationFailed, Code::InvalidReplicationFactor] {
            assert!(matches!(open_code("x", code), OpenError::Invalid(_)), "{code}");
        }
        for code in [Code::AllBrokersDown, Code::LeaderNotAvailable, Code::OperationTimedOut] {
            assert!(matches!(open_code("x", code), OpenError::Unavailable(_)), "{code}");
        }
    }
}
