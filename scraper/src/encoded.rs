//! The labels of a series, encoded once for every request that they will stand in.

use promring_model::labels::Labels;
use promring_proto::remote_write::v1;

/// A series' labels in the form that requests are made of, one a class of destinations.
#[derive(Debug)]
pub struct Encoded {
    bytes: Box<[u8]>,
    /// Where each class but the last ends; empty where there is one class only.
    ends: Box<[u32]>,
}

impl Encoded {
    /// Encodes the label sets of all classes; None for a class that drops the series.
    #[must_use]
    pub fn new(sets: &[Option<Labels>]) -> Self {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for labels in sets {
            if let Some(labels) = labels {
                v1::encode_labels(labels.iter(), &mut bytes);
            }
            ends.push(bytes.len() as u32);
        }
        ends.pop();
        Self { bytes: bytes.into_boxed_slice(), ends: ends.into_boxed_slice() }
    }

    /// The labels for the destinations of a class; None where its rules drop the series.
    #[must_use]
    pub fn class(&self, class: usize) -> Option<&[u8]> {
        let start = if class == 0 { 0 } else { *self.ends.get(class - 1)? as usize };
        let end = self.ends.get(class).map_or(self.bytes.len(), |end| *end as usize);
        (start < end).then(|| &self.bytes[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_gets_its_own_labels_or_none() {
        let labels = |value: &str| Some(Labels::from_pairs([("a", value)]));
        let encoded = Encoded::new(&[labels("1"), None, labels("333")]);
        assert_eq!(encoded.class(0).map(<[u8]>::len), Some(8));
        assert_eq!(encoded.class(1), None);
        assert_eq!(encoded.class(2).map(<[u8]>::len), Some(10));
        assert_eq!(encoded.class(3), None);
        assert_eq!(Encoded::new(&[]).class(0), None);
    }
}
