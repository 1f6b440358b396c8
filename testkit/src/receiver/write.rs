//! `POST /api/v1/write`: remote write 1.0 and 2.0, checked as the specification has it, into the audit.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::fault::Fault;
use super::io::Breaker;
use crate::clock::now_ms;
use crate::wire::{Contents, WireError, read_v2_request, read_write_request};

/// Most bytes of a request as it comes.
pub const BODY_BYTES_MAX: usize = 32 << 20;
/// Most bytes of a request after decompression.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("Content-Encoding must be snappy, and is {0:?}")]
    Encoding(String),
    #[error(
        "Content-Type must be application/x-protobuf with prometheus.WriteRequest or io.prometheus.write.v2.Request, and is {0:?}"
    )]
    ContentType(String),
    #[error("X-Prometheus-Remote-Write-Version must be {expected}, and is {found:?}")]
    Version { expected: &'static str, found: String },
    #[error("the body is no snappy block: {0}")]
    Snappy(String),
    #[error("the body breaks off, or has more than {BODY_BYTES_MAX} bytes")]
    BodyTooLong,
    #[error("the body has more than {DECOMPRESSED_BYTES_MAX} bytes after decompression")]
    TooLong,
    #[error("the body is no {}: {error}", version.message())]
    Message { version: Version, error: WireError },
}

/// Version of remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

impl Version {
    /// What a request says that it is; None: nothing that is known.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parts = field(headers, "content-type").split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("application/x-protobuf") {
            return None;
        }
        let mut version = Self::V1;
        for message in parts.filter_map(|part| part.strip_prefix("proto=")) {
            let message = message.trim_matches('"');
            version = [Self::V1, Self::V2].into_iter().find(|version| version.message() == message)?;
        }
        Some(version)
    }

    fn message(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }

    /// As it stands in the head of a request.
    fn number(self) -> &'static str {
        match self {
            Self::V1 => "0.1.0",
            Self::V2 => "2.0.0",
        }
    }

    fn read(self, message: &[u8], sample: impl FnMut(&[u8], f64, i64)) -> Result<Contents, Refusal> {
        let read = match self {
            Self::V1 => read_write_request(message, sample),
            Self::V2 => read_v2_request(message, sample),
        };
        read.map_err(|error| Refusal::Message { version: self, error })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Encoding(_) | Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTooLong | Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Version { .. } | Self::Snappy(_) | Self::Message { .. } => StatusCode::BAD_REQUEST,
        };
        (status, format!("{self}\n")).into_response()
    }
}

pub(super) async fn write(
    State(shared): State<Shared>,
    ConnectInfo(breaker): ConnectInfo<Breaker>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // By what it announces, before it is read; and again by what comes.
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > BODY_BYTES_MAX) {
        return shared.refuse(Refusal::BodyTooLong);
    }
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return shared.refuse(Refusal::BodyTooLong);
    };
    let fate = shared.faults().next(Version::of(&headers) == Some(Version::V2));
    if fate.delay_ms > 0 {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(fate.delay_ms)) => {}
            () = shared.stopped() => return broken(&breaker),
        }
    }
    if fate.fault.is_some() {
        shared.stats().received.faulted += 1;
    }
    match fate.fault {
        None | Some(Fault::Slow { .. }) => {}
        Some(Fault::Status { code, retry_after_s }) => return told_status(code, retry_after_s),
        Some(Fault::NoV2) => return told_status(415, None),
        Some(Fault::V2TakenForV1) => return StatusCode::NO_CONTENT.into_response(),
        Some(Fault::Reset) => return broken(&breaker),
        Some(Fault::Hang) => {
            shared.stopped().await;
            return broken(&breaker);
        }
        Some(Fault::AckLost) => {
            // Stored, and nobody hears of it.
            if let Err(refusal) = store(&shared, &headers, &body) {
                tracing::warn!(%refusal, "a request whose answer was to get lost");
            }
            return broken(&breaker);
        }
    }
    match store(&shared, &headers, &body) {
        Ok((Version::V1, _)) => StatusCode::NO_CONTENT.into_response(),
        Ok((Version::V2, contents)) => {
            let written = [
                ("x-prometheus-remote-write-samples-written", contents.samples.to_string()),
                ("x-prometheus-remote-write-histograms-written", contents.histograms.to_string()),
                ("x-prometheus-remote-write-exemplars-written", contents.exemplars.to_string()),
            ];
            (StatusCode::NO_CONTENT, written).into_response()
        }
        Err(refusal) => shared.refuse(refusal),
    }
}

impl Shared {
    /// Counts a refusal, and answers with it.
    fn refuse(&self, refusal: Refusal) -> Response {
        self.stats().received.refused += 1;
        tracing::warn!(%refusal, "refused");
        refusal.into_response()
    }
}

/// Breaks the connection off; the answer is what nobody gets to see.
fn broken(breaker: &Breaker) -> Response {
    breaker.reset();
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

fn told_status(code: u16, retry_after_s: Option<u64>) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match retry_after_s {
        Some(seconds) => (status, [(header::RETRY_AFTER, seconds.to_string())], "as told\n").into_response(),
        None => (status, "as told\n").into_response(),
    }
}

/// Checks a request as a whole, and feeds it to the audit. What it was and held.
fn store(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Result<(Version, Contents), Refusal> {
    let version = check_headers(headers)?;
    let len = snap::raw::decompress_len(body).map_err(|error| Refusal::Snappy(error.to_string()))?;
    if len > DECOMPRESSED_BYTES_MAX {
        return Err(Refusal::TooLong);
    }
    let message =
        snap::raw::Decoder::new().decompress_vec(body).map_err(|error| Refusal::Snappy(error.to_string()))?;
    // Nothing of a request that is broken somewhere is stored, so it is read before it counts.
    let contents = version.read(&message, |_, _, _| {})?;
    let mut audit = shared.audit();
    audit.request(&message);
    version.read(&message, |labels, value, timestamp_ms| {
        audit.sample_encoded(labels, value, timestamp_ms);
    })?;
    drop(audit);
    let mut payload = shared.payload();
    match version {
        Version::V1 => payload.take_v1(&message, &contents),
        Version::V2 => payload.take_v2(&message, &contents),
    }
    drop(payload);
    let mut stats = shared.stats();
    stats.rate.add(contents.samples, now_ms());
    let received = &mut stats.received;
    received.requests += 1;
    received.v2_requests += u64::from(version == Version::V2);
    received.bytes += body.len() as u64;
    received.decompressed_bytes += message.len() as u64;
    received.exemplars += contents.exemplars;
    received.histograms += contents.histograms;
    received.metadata += contents.metadata;
    Ok((version, contents))
}

fn check_headers(headers: &HeaderMap) -> Result<Version, Refusal> {
    let encoding = field(headers, "content-encoding");
    if !encoding.eq_ignore_ascii_case("snappy") {
        return Err(Refusal::Encoding(encoding.to_owned()));
    }
    let version = Version::of(headers)
        .ok_or_else(|| Refusal::ContentType(field(headers, "content-type").to_owned()))?;
    let found = field(headers, "x-prometheus-remote-write-version");
    if found != version.number() {
        return Err(Refusal::Version { expected: version.number(), found: found.to_owned() });
    }
    Ok(version)
}

fn field<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
