//! The table of symbols of one remote write 2.0 request, while it is being filled.

use promring_proto::remote_write::v2;

use crate::symbols::{Reading, Symbol, Symbols};

/// Which symbols stand in the request, and where.
///
/// It holds a reference to each, so that a number keeps its meaning until the request is finished, even if the
/// series that brought it is gone by then.
#[derive(Debug, Default)]
pub struct RequestSymbols {
    /// By the process's number: the request it was last used in, and its place there.
    places: Vec<(u32, u32)>,
    /// In the order of their places; place 0 is the empty text, which the protocol wants there.
    held: Vec<Symbol>,
    /// Numbers the requests; zero is none.
    request: u32,
    bytes: usize,
}

impl RequestSymbols {
    /// The place of a symbol in the request's table, which gets it where it has it not.
    #[inline]
    pub fn reference(&mut self, symbol: Symbol, symbols: &Reading<'_>) -> u32 {
        if let Some(&(request, place)) = self.places.get(symbol as usize)
            && request == self.request
            && request != 0
        {
            return place;
        }
        self.add(symbol, symbols)
    }

    fn add(&mut self, symbol: Symbol, symbols: &Reading<'_>) -> u32 {
        if self.request == 0 {
            self.request = 1;
        }
        if self.places.len() <= symbol as usize {
            self.places.resize(symbols.len(), (0, 0));
        }
        symbols.retain(symbol);
        self.bytes += symbols.text(symbol).len() + 2;
        self.held.push(symbol);
        let place = self.held.len() as u32;
        self.places[symbol as usize] = (self.request, place);
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
        self.request = self.request.wrapping_add(1);
        if self.request == 0 {
            // Every number has been used: places from the first time round must not count again.
            self.places.fill((0, 0));
            self.request = 1;
        }
    }
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
