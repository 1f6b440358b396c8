//! The request that a lane is filling, until it is compressed and becomes a record of the queue.

use promring_model::config::{ProtobufMessage, RemoteWrite};
use promring_proto::remote_write::{v1, v2};
use promring_proto::varint::push_varint;
use tokio::time::Instant;

use super::destination::{Destination, Place};
use crate::families::Family;
use crate::labelsets::{KnownRefs, LabelSet};
use crate::payload::{Exemplars, Outgoing, Value};
use crate::queue::{Encoding, RecordMeta};
use crate::request_symbols::RequestSymbols;
use crate::symbols::{Reading, Symbol, Symbols};

/// A request is cut at this many bytes before compression, whatever its number of samples: receivers limit bodies.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// What requests to a destination hold beside samples, and how they are encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    pub(super) encoding: Encoding,
    exemplars: bool,
    /// Metadata stand beside each series; otherwise they have requests of their own.
    metadata: bool,
}

impl Content {
    pub(super) fn of(config: &RemoteWrite) -> Self {
        let encoding = match config.protobuf_message {
            ProtobufMessage::V1 => Encoding::V1,
            ProtobufMessage::V2 => Encoding::V2,
        };
        let metadata = encoding == Encoding::V2 && config.metadata.send;
        Self { encoding, exemplars: config.send_exemplars, metadata }
    }
}

/// The request that a lane is filling.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The series, encoded.
    body: Vec<u8>,
    /// The table of symbols of a remote write 2.0 request.
    table: RequestSymbols,
    meta: RecordMeta,
    pub(super) since: Option<Instant>,
    /// Labels of the series at hand, or the request as a whole.
    labels: Vec<u8>,
    /// Exemplars and metadata of the series at hand.
    tail: Vec<u8>,
    /// Labels of the exemplar at hand.
    exemplar: Vec<u8>,
    /// What of the labels' references need not be looked up again.
    known: KnownRefs,
    described: Described,
}

/// The family that was last spoken of in the request, encoded: most series are of the same one as the series before.
#[derive(Debug, Default)]
struct Described {
    family: Option<Family>,
    metadata: Vec<u8>,
}

impl Batch {
    #[inline]
    pub(super) fn push(
        &mut self,
        labels: &LabelSet<'_>,
        sample: &Outgoing<'_>,
        symbols: &Reading<'_>,
        content: &Content,
    ) {
        let time_ms = sample.timestamp_ms;
        if self.meta.points() == 0 {
            self.since = Some(Instant::now());
            self.meta.encoding = content.encoding;
            (self.meta.first_ms, self.meta.last_ms) = (time_ms, time_ms);
        }
        self.labels.clear();
        match content.encoding {
            Encoding::V1 => self.push_v1(labels, sample, symbols, content),
            Encoding::V2 => self.push_v2(labels, sample, symbols, content),
        }
        match sample.value {
            Value::Float(_) => self.meta.samples += 1,
            Value::Histogram { .. } => self.meta.histograms += 1,
        }
        self.meta.first_ms = self.meta.first_ms.min(time_ms);
        self.meta.last_ms = self.meta.last_ms.max(time_ms);
    }

    fn push_v1(
        &mut self,
        labels: &LabelSet<'_>,
        sample: &Outgoing<'_>,
        symbols: &Reading<'_>,
        content: &Content,
    ) {
        labels.write_v1(symbols, &mut self.labels);
        self.tail.clear();
        if content.exemplars && !sample.exemplars.is_empty() {
            self.push_exemplars_v1(&sample.exemplars, symbols);
        }
        match sample.value {
            Value::Float(bits) => {
                let value = f64::from_bits(bits);
                let time_ms = sample.timestamp_ms;
                v1::push_sample_series(&self.labels, value, time_ms, &self.tail, &mut self.body);
            }
            Value::Histogram { content, .. } => {
                v1::push_histogram_series(&self.labels, content, &self.tail, &mut self.body);
            }
        }
    }

    fn push_v2(
        &mut self,
        labels: &LabelSet<'_>,
        sample: &Outgoing<'_>,
        symbols: &Reading<'_>,
        content: &Content,
    ) {
        let table = &mut self.table;
        labels.write_refs(&mut self.known, |symbol| table.reference(symbol, symbols), &mut self.labels);
        let metadata: &[u8] = match sample.family {
            Some(family) if content.metadata => {
                self.meta.metadata += 1;
                self.described.of(family, &mut self.table, symbols)
            }
            Some(_) | None => &[],
        };
        let mut tail = metadata;
        if content.exemplars && !sample.exemplars.is_empty() {
            self.tail.clear();
            let exemplars = sample.exemplars.iter();
            for (labels, value_bits, time_ms) in exemplars {
                self.exemplar.clear();
                for symbol in labels {
                    push_varint(&mut self.exemplar, self.table.reference(*symbol, symbols).into());
                }
                v2::push_exemplar(&self.exemplar, value_bits, time_ms, &mut self.tail);
            }
            self.meta.exemplars += sample.exemplars.len() as u32;
            self.tail.extend_from_slice(metadata);
            tail = &self.tail;
        }
        let Outgoing { timestamp_ms, start_ms, .. } = *sample;
        match sample.value {
            Value::Float(value_bits) => {
                let point = v2::Point { value_bits, timestamp_ms, start_ms };
                v2::push_sample_series(&self.labels, point, tail, &mut self.body);
            }
            Value::Histogram { content, .. } => {
                v2::push_histogram_series(&self.labels, content, start_ms, tail, &mut self.body);
            }
        }
    }

    fn push_exemplars_v1(&mut self, exemplars: &Exemplars<'_>, symbols: &Reading<'_>) {
        for (labels, value_bits, time_ms) in exemplars.iter() {
            let text = |symbol: &Symbol| symbols.text(*symbol);
            let pairs = labels.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1])));
            self.exemplar.clear();
            v1::encode_labels(pairs, &mut self.exemplar);
            v1::push_exemplar(&self.exemplar, f64::from_bits(value_bits), time_ms, &mut self.tail);
        }
        self.meta.exemplars += exemplars.len() as u32;
    }

    /// Whether something has gathered that is encoded in another way.
    #[inline]
    pub(super) fn is_of_another(&self, encoding: Encoding) -> bool {
        self.meta.encoding != encoding && self.meta.points() > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.meta.points() == 0
    }

    pub(super) fn is_full(&self, config: &RemoteWrite) -> bool {
        self.meta.points() >= config.queue.max_samples_per_send as u64
            || self.body.len() + self.table.bytes() >= REQUEST_BYTES_MAX
    }

    /// Makes a record of what has gathered.
    pub(super) fn cut(
        &mut self,
        destination: &Destination,
        place: Place,
        symbols: &Reading<'_>,
        of: &Symbols,
    ) {
        let meta = std::mem::take(&mut self.meta);
        self.since = None;
        self.described.family = None;
        self.known.forget();
        if meta.points() == 0 {
            return;
        }
        if meta.encoding == Encoding::V2 {
            // The table goes before what refers to it.
            self.labels.clear();
            self.table.finish(symbols, of, &mut self.labels);
            self.labels.extend_from_slice(&self.body);
            std::mem::swap(&mut self.labels, &mut self.body);
        }
        let mut record = destination.compressed.take();
        record.resize(snap::raw::max_compress_len(self.body.len()), 0);
        let compressed = snap::raw::Encoder::new().compress(&self.body, &mut record);
        self.body.clear();
        let result = match compressed {
            Ok(len) => destination.append(place, meta, &record[..len]).map_err(|error| error.to_string()),
            // Only inputs of 4 GiB and more cannot be compressed, and requests are cut long before.
            Err(error) => Err(error.to_string()),
        };
        destination.compressed.give(record);
        if let Err(error) = result {
            let (name, samples) = (&destination.config.name, meta.points());
            metrics::counter!("promring_queue_append_failed_samples_total", "remote_name" => name.clone())
                .increment(samples);
            tracing::error!(destination = name, samples, error, "samples could not be queued and are lost");
        }
    }
}

impl Described {
    /// A family, encoded for this request.
    #[inline]
    fn of(&mut self, family: &Family, table: &mut RequestSymbols, symbols: &Reading<'_>) -> &[u8] {
        if self.family.as_ref() != Some(family) {
            self.encode(family, table, symbols);
        }
        &self.metadata
    }

    fn encode(&mut self, family: &Family, table: &mut RequestSymbols, symbols: &Reading<'_>) {
        self.family = Some(*family);
        self.metadata.clear();
        // The empty text is the first of every table.
        let mut reference =
            |symbol| if symbols.text(symbol).is_empty() { 0 } else { table.reference(symbol, symbols) };
        let (help, unit) = (reference(family.help), reference(family.unit));
        v2::push_metadata(family.kind, help, unit, &mut self.metadata);
    }
}
