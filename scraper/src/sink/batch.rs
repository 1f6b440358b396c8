//! The request that a lane is filling, until it is compressed and becomes a record of the queue.

use promring_model::config::{ProtobufMessage, RemoteWrite};
use promring_proto::pen::{Padded, Pen, Room, append};
use promring_proto::remote_write::{TimeField, v1, v2};
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
    body: Room,
    /// The table of symbols of a remote write 2.0 request.
    table: RequestSymbols,
    meta: RecordMeta,
    pub(super) since: Option<Instant>,
    /// The time of the samples, of which most have the same.
    time: TimeField,
    /// Labels of the native histogram at hand, or the request's table.
    labels: Vec<u8>,
    /// Exemplars of the series at hand; of a native histogram, metadata too.
    tail: Vec<u8>,
    /// The native histogram at hand, as a series.
    histogram: Vec<u8>,
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
    metadata: Padded,
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
        self.time.set(time_ms);
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
        self.tail.clear();
        if content.exemplars && !sample.exemplars.is_empty() {
            self.push_exemplars_v1(&sample.exemplars, symbols);
        }
        let Self { body, time, tail, histogram, .. } = self;
        match sample.value {
            Value::Float(bits) => body.write(|pen| {
                let labels = |pen: &mut Pen<'_>| labels.write_v1(symbols, pen);
                v1::put_sample_series(labels, f64::from_bits(bits), time, tail, pen)
            }),
            Value::Histogram { content, .. } => {
                self.labels.clear();
                append(&mut self.labels, |pen| labels.write_v1(symbols, pen));
                histogram.clear();
                v1::push_histogram_series(&self.labels, content, tail, histogram);
                body.write(|pen| pen.bytes(histogram));
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
        let Self { body, table, time, tail, histogram, exemplar, known, described, meta, .. } = self;
        let family = sample.family.filter(|_| content.metadata);
        meta.metadata += u32::from(family.is_some());
        tail.clear();
        if content.exemplars && !sample.exemplars.is_empty() {
            for (labels, value_bits, time_ms) in sample.exemplars.iter() {
                exemplar.clear();
                for symbol in labels {
                    push_varint(exemplar, table.reference(*symbol, symbols).into());
                }
                v2::push_exemplar(exemplar, value_bits, time_ms, tail);
            }
            meta.exemplars += sample.exemplars.len() as u32;
        }
        match sample.value {
            Value::Float(value_bits) => body.write(|pen| {
                let begun = v2::begin_series(pen)?;
                labels.write_refs(known, |symbol| table.reference(symbol, symbols), pen)?;
                v2::put_sample(&begun, value_bits, time, sample.start_ms, pen)?;
                if !tail.is_empty() {
                    pen.bytes(tail)?;
                }
                if let Some(family) = family {
                    pen.padded(described.of(family, table, symbols))?;
                }
                v2::end_series(&begun, pen)
            }),
            Value::Histogram { content, .. } => {
                self.labels.clear();
                append(&mut self.labels, |pen| {
                    labels.write_refs(known, |symbol| table.reference(symbol, symbols), pen)
                });
                if let Some(family) = family {
                    tail.extend_from_slice(described.of(family, table, symbols).as_slice());
                }
                histogram.clear();
                v2::push_histogram_series(&self.labels, content, sample.start_ms, tail, histogram);
                body.write(|pen| pen.bytes(histogram));
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
        self.labels.clear();
        if meta.encoding == Encoding::V2 {
            // The table goes before what refers to it.
            self.table.finish(symbols, of, &mut self.labels);
        }
        let mut block = destination.blocks.take();
        let result = match block.compress([&self.labels, self.body.as_slice()]) {
            Ok(block) => destination.append(place, meta, block).map_err(|error| error.to_string()),
            // Only inputs of 4 GiB and more cannot be compressed, and requests are cut long before.
            Err(error) => Err(error.to_string()),
        };
        destination.blocks.give(block);
        self.body.clear();
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
    fn of(&mut self, family: &Family, table: &mut RequestSymbols, symbols: &Reading<'_>) -> &Padded {
        if self.family.as_ref() != Some(family) {
            self.encode(family, table, symbols);
        }
        &self.metadata
    }

    fn encode(&mut self, family: &Family, table: &mut RequestSymbols, symbols: &Reading<'_>) {
        self.family = Some(*family);
        // The empty text is the first of every table.
        let mut reference =
            |symbol| if symbols.text(symbol).is_empty() { 0 } else { table.reference(symbol, symbols) };
        let (help, unit) = (reference(family.help), reference(family.unit));
        self.metadata.fill(|metadata| v2::push_metadata(family.kind, help, unit, metadata));
    }
}
