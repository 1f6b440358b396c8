//! The table of symbols of one remote write 2.0 request, while it is being filled.

use hashbrown::HashTable;
use promring_proto::remote_write::v2;

use crate::symbols::{Reading, Symbol, Symbols};

/// A table that has grown to more places than this is given back with its request.
const KEPT_PLACES_MAX: usize = 16 << 10;

/// So many symbols are found without the table: a target's were most often numbered one after the other.
const REMEMBERED: usize = 2 << 10;

/// Which symbols stand in the request, and where.
///
/// It holds a reference to each, so that a number keeps its meaning until the request is finished, even if the
/// series that brought it is gone by then. What it takes depends on the request, not on how many symbols the process
/// has: there is one for each lane of each destination.
#[derive(Debug, Default)]
pub struct RequestSymbols {
    /// Places of the request's symbols, by the process's number.
    places: HashTable<u32>,
    /// For the last digits of a number, a symbol of the request that has them, and its place (0: there is none).
    remembered: Box<[(Symbol, u32)]>,
    /// In the order of their places; place 0 is the empty text, which the protocol wants there.
    held: Vec<Symbol>,
    bytes: usize,
}

impl RequestSymbols {
    /// The place of a symbol in the request's table, which gets it where it has it not.
    #[inline]
    pub fn reference(&mut self, symbol: Symbol, symbols: &Reading<'_>) -> u32 {
        match self.remembered.get(symbol as usize % REMEMBERED) {
            Some(&(known, place)) if known == symbol && place > 0 => place,
            Some(_) | None => self.look_up(symbol, symbols),
        }
    }

    fn look_up(&mut self, symbol: Symbol, symbols: &Reading<'_>) -> u32 {
        let held = &self.held;
        let is_it = |&place: &u32| held.get(place as usize - 1) == Some(&symbol);
        let place = match self.places.find(spread(symbol), is_it) {
            Some(&place) => place,
            None => self.add(symbol, symbols),
        };
        if self.remembered.is_empty() {
            self.remembered = vec![(0, 0); REMEMBERED].into_boxed_slice();
        }
        self.remembered[symbol as usize % REMEMBERED] = (symbol, place);
        place
    }

    fn add(&mut self, symbol: Symbol, symbols: &Reading<'_>) -> u32 {
        symbols.retain(symbol);
        self.bytes += symbols.text(symbol).len() + 2;
        self.held.push(symbol);
        let place = self.held.len() as u32;
        let held = &self.held;
        self.places.insert_unique(spread(symbol), place, |&place| spread(held[place as usize - 1]));
        place
    }

    /// Bytes of the table, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the table to `out`, and begins a new request.
    pub fn finish(&mut self, symbols: &Reading<'_>, of: &Symbols, out: &mut Vec<u8>) {
        v2::push_symbol("", out);
        for &symbol in &self.held {
            v2::push_symbol(symbols.text(symbol), out);
        }
        symbols.release(self.held.drain(..), of);
        self.bytes = 0;
        self.remembered.fill((0, 0));
        self.places.clear();
        if self.places.capacity() > KEPT_PLACES_MAX {
            (self.places, self.held) = Default::default();
        }
    }
}

/// Numbers that follow each other are far apart in every bit that a table looks at.
#[inline]
fn spread(symbol: Symbol) -> u64 {
    u64::from(symbol).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use promring_proto::remote_write::v2::Request;
    use prost::Message;

    use super::*;

    #[test]
    fn a_request_has_each_text_once_and_keeps_it_until_it_is_finished() {
        let symbols = Symbols::default();
        let mut ids = Vec::new();
        symbols.intern(["a", "b"], &mut ids);
        let mut table = RequestSymbols::default();
        let mut body = Vec::new();
        {
            let reading = symbols.reading();
            assert_eq!([0, 1, 0].map(|at: usize| table.reference(ids[at], &reading)), [1, 2, 1]);
        }
        // The series is gone, and a new string comes: the request's strings must keep their numbers.
        symbols.release(ids.clone());
        symbols.intern(["c"], &mut ids);
        table.finish(&symbols.reading(), &symbols, &mut body);
        assert_eq!(Request::decode(&*body).unwrap().symbols, ["", "a", "b"]);

        symbols.intern(["d"], &mut ids);
        assert_eq!(symbols.reading().kept(), 2, "only c and d are used any more");
        body.clear();
        let reading = symbols.reading();
        assert_eq!(table.reference(ids[3], &reading), 1, "a new request begins anew");
        table.finish(&reading, &symbols, &mut body);
        assert_eq!(Request::decode(&*body).unwrap().symbols, ["", "d"]);
    }
}
