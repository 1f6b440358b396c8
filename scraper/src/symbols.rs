//! Strings that series share: every label name and value once, for the whole process, as long as somebody uses it.
//!
//! A series keeps numbers of symbols instead of label bytes (remote write 2.0's own idea). New strings come in under a lock
//! once a new series; reading them back, which every sample does, takes a shared lock once a scrape.
//!
//! When a large target has changed all its strings, both the old and the new ones have been there: what that took is given
//! back by [`Symbols::collect`], in steps between which others get their turn.

mod index;
mod numbers;
mod texts;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use index::Index;
use numbers::Numbers;
use texts::{Place, Texts};

/// So many references are counted off at a time: who waits for the table meanwhile waits about a millisecond.
const FREED_MAX: usize = 8_192;

/// Who waits for the table gets it in this time. Letting go and taking again at once would leave them asleep.
const PAUSE: Duration = Duration::from_micros(50);

/// So many texts are looked at at a time when some are moved.
const MOVED_MAX: u32 = 8_192;

/// The number of a symbol. It means the same string for as long as one reference to it is held.
pub type Symbol = u32;

/// All strings of a process.
#[derive(Debug, Default)]
pub struct Symbols {
    table: RwLock<Table>,
    returned: Mutex<Returned>,
    /// Memory held, in bytes, about.
    bytes: AtomicUsize,
    /// References that were given back and not counted off yet, about.
    uncounted: AtomicUsize,
    /// Much is held for nothing since some of what was given back was freed.
    is_wasteful: AtomicBool,
}

/// What was given back, and is freed with the next new string, or when it is much.
#[derive(Debug, Default)]
struct Returned {
    /// References that still have to be counted off.
    references: Vec<Symbol>,
    /// Symbols whose last reference was counted off.
    unused: Vec<Symbol>,
}

#[derive(Debug, Default)]
struct Table {
    strings: Strings,
    by_text: Index,
}

/// What is known of symbols, by their numbers.
#[derive(Debug, Default)]
struct Strings {
    slots: Numbers<Slot>,
    texts: Texts,
}

#[derive(Debug)]
struct Slot {
    place: Place,
    references: AtomicU32,
}

/// Symbols, readable: new strings wait until it is dropped.
#[derive(Debug)]
pub struct Reading<'s> {
    table: RwLockReadGuard<'s, Table>,
}

impl Symbols {
    /// The symbols of these strings, each with one more reference. Returns what those that are new take, in bytes, about.
    pub fn intern<'t>(&self, texts: impl IntoIterator<Item = &'t str>, out: &mut Vec<Symbol>) -> usize {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        self.free(&mut table);
        let before = table.used();
        for text in texts {
            out.push(table.intern(text));
        }
        self.bytes.store(table.bytes(), Ordering::Relaxed);
        table.used() - before
    }

    /// Counts off some of what was given back. True: that was all.
    fn free(&self, table: &mut Table) -> bool {
        let mut returned = self.returned();
        table.free(&mut returned);
        self.is_wasteful.store(table.is_wasteful(), Ordering::Relaxed);
        self.uncounted.store(returned.references.len(), Ordering::Relaxed);
        returned.references.is_empty() && returned.unused.is_empty()
    }

    /// Whether so much was given back that it is worth to [`Symbols::collect`].
    #[must_use]
    pub fn has_garbage(&self) -> bool {
        self.uncounted.load(Ordering::Relaxed) >= FREED_MAX || self.is_wasteful.load(Ordering::Relaxed)
    }

    /// Frees all that nobody uses, and gives back what is held for nothing.
    pub fn collect(&self) {
        self.in_turns(|table| self.free(table));
        self.in_turns(|table| !table.by_text.shrink_one(&table.strings));
        let mut next = 0;
        self.in_turns(|table| {
            if next == 0 && !table.strings.texts.has_garbage() {
                return true;
            }
            next = table.strings.tidy_from(next);
            next >= table.strings.slots.end()
        });
        self.is_wasteful.store(false, Ordering::Relaxed);
    }

    /// Takes a turn after the other until one is the last.
    fn in_turns(&self, mut turn: impl FnMut(&mut Table) -> bool) {
        loop {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            let is_last = turn(&mut table);
            self.bytes.store(table.bytes(), Ordering::Relaxed);
            drop(table);
            if is_last {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Memory held, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Gives references back. This waits for no lock that a reader holds, so it can be called while reading.
    pub fn release(&self, symbols: impl IntoIterator<Item = Symbol>) {
        let mut returned = self.returned();
        returned.references.extend(symbols);
        let uncounted = returned.references.len();
        drop(returned);
        self.uncounted.store(uncounted, Ordering::Relaxed);
        if uncounted >= FREED_MAX
            && let Ok(mut table) = self.table.try_write()
        {
            self.free(&mut table);
            self.bytes.store(table.bytes(), Ordering::Relaxed);
        }
    }

    /// Opens the strings for reading.
    pub fn reading(&self) -> Reading<'_> {
        Reading { table: self.table.read().unwrap_or_else(PoisonError::into_inner) }
    }

    fn returned(&self) -> MutexGuard<'_, Returned> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading<'_> {
    /// The string of a symbol.
    #[inline]
    #[must_use]
    pub fn text(&self, symbol: Symbol) -> &str {
        self.table.strings.text(symbol)
    }

    /// How many strings are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.table.strings.slots.used()
    }

    /// Takes one more reference to a symbol that somebody holds.
    pub fn retain(&self, symbol: Symbol) {
        if let Some(slot) = self.table.strings.slots.get(symbol) {
            slot.references.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives references back to the symbols that this was opened from. It counts them off at once, so that what gives
    /// back often and takes nothing new leaves nothing behind.
    pub fn release(&self, symbols: impl IntoIterator<Item = Symbol>, of: &Symbols) {
        let mut unused = Vec::new();
        for symbol in symbols {
            if let Some(slot) = self.table.strings.slots.get(symbol)
                && slot.references.fetch_sub(1, Ordering::AcqRel) == 1
            {
                unused.push(symbol);
            }
        }
        if !unused.is_empty() {
            of.returned().unused.append(&mut unused);
        }
    }
}

impl Table {
    fn bytes(&self) -> usize {
        let Strings { slots, texts } = &self.strings;
        slots.bytes() + texts.bytes() + self.by_text.bytes()
    }

    /// What the strings that are used take, without what is spare.
    fn used(&self) -> usize {
        let Strings { slots, texts } = &self.strings;
        texts.used() + slots.used() * SYMBOL_BYTES
    }

    /// Whether it takes much less once it is collected.
    fn is_wasteful(&self) -> bool {
        self.strings.texts.has_garbage() || self.by_text.is_wide()
    }

    fn intern(&mut self, text: &str) -> Symbol {
        let Self { strings, by_text } = self;
        let hash = by_text.hash(text);
        if let Some(symbol) = by_text.find(text, hash, strings) {
            if let Some(slot) = strings.slots.get_mut(symbol) {
                *slot.references.get_mut() += 1;
            }
            return symbol;
        }
        let slot = Slot { place: strings.texts.add(text), references: AtomicU32::new(1) };
        let symbol = strings.slots.add(slot);
        by_text.add(symbol, hash, strings);
        symbol
    }

    /// Frees some of what still nobody uses: a string may have been wanted again since.
    fn free(&mut self, returned: &mut Returned) {
        let Self { strings, by_text } = self;
        let Returned { references, unused } = returned;
        for symbol in references.drain(references.len().saturating_sub(FREED_MAX)..) {
            let Some(slot) = strings.slots.get_mut(symbol) else { continue };
            let references = slot.references.get_mut();
            *references -= 1;
            if *references == 0 {
                unused.push(symbol);
            }
        }
        if references.capacity() > 4 * FREED_MAX && references.len() < FREED_MAX {
            references.shrink_to(FREED_MAX);
        }
        for symbol in unused.drain(unused.len().saturating_sub(FREED_MAX)..) {
            let is_unused = strings.slots.get_mut(symbol).is_some_and(|slot| *slot.references.get_mut() == 0);
            // A symbol may be listed twice; the second time it is no longer in the table.
            if is_unused && by_text.remove(symbol, strings) {
                strings.free(symbol);
            }
        }
    }
}

impl Strings {
    #[inline]
    fn text(&self, symbol: Symbol) -> &str {
        self.slots.get(symbol).map_or("", |slot| self.texts.get(slot.place))
    }

    fn free(&mut self, symbol: Symbol) {
        if let Some(slot) = self.slots.get_mut(symbol) {
            self.texts.remove(std::mem::take(&mut slot.place));
        }
        self.slots.free(symbol);
    }

    /// Moves texts of some symbols together. Returns the next one.
    fn tidy_from(&mut self, first: Symbol) -> Symbol {
        let Self { slots, texts } = self;
        let next = first.saturating_add(MOVED_MAX).min(slots.end());
        for symbol in first..next {
            if let Some(slot) = slots.get_mut(symbol) {
                texts.tidy(&mut slot.place);
            }
        }
        next
    }
}

/// What a symbol takes beside its text.
const SYMBOL_BYTES: usize = size_of::<Slot>() + 2 * (size_of::<Symbol>() + 1);

#[cfg(test)]
mod tests {
    use super::*;

    fn intern(symbols: &Symbols, text: &str) -> Symbol {
        let mut out = Vec::new();
        symbols.intern([text], &mut out);
        out[0]
    }

    #[test]
    fn a_string_has_one_number_as_long_as_it_is_used() {
        let symbols = Symbols::default();
        let a = intern(&symbols, "a");
        assert_eq!(intern(&symbols, "a"), a);
        assert_ne!(intern(&symbols, "b"), a);
        assert_eq!(symbols.reading().text(a), "a");
        assert_eq!(symbols.reading().kept(), 2);
    }

    #[test]
    fn a_string_that_nobody_uses_is_freed_and_its_number_used_again() {
        let symbols = Symbols::default();
        let a = intern(&symbols, "a");
        intern(&symbols, "a");
        symbols.release([a]);
        let b = intern(&symbols, "b");
        assert_ne!(b, a, "one reference is left");
        symbols.release([a]);
        let c = intern(&symbols, "c");
        assert_eq!(c, a);
        assert_eq!(symbols.reading().text(c), "c");
        assert_ne!(intern(&symbols, "a"), c);
    }

    #[test]
    fn a_string_that_is_wanted_again_before_it_is_freed_stays() {
        let symbols = Symbols::default();
        let a = intern(&symbols, "a");
        symbols.reading().release([a], &symbols);
        symbols.reading().retain(a);
        symbols.reading().release([a], &symbols);
        symbols.reading().retain(a);
        intern(&symbols, "b");
        assert_eq!(symbols.reading().text(a), "a", "it was listed as unused twice and is used");
        symbols.release([a]);
        intern(&symbols, "b");
        assert_eq!(symbols.reading().kept(), 1);
    }

    fn many(symbols: &Symbols, count: usize) -> Vec<Symbol> {
        let mut out = Vec::new();
        for number in 0..count {
            symbols.intern([format!("text {number}").as_str()], &mut out);
        }
        out
    }

    #[test]
    fn what_a_new_string_takes_is_told_once() {
        let symbols = Symbols::default();
        let mut out = Vec::new();
        assert_eq!(symbols.intern(["a", "a"], &mut out), "a".len() + SYMBOL_BYTES);
        assert_eq!(symbols.intern(["a"], &mut out), 0);
        symbols.release([out[0]; 3]);
        assert!(symbols.intern(["b"], &mut out) > 0, "what is freed is not taken off");
    }

    #[test]
    fn what_is_released_in_numbers_is_freed_without_a_new_string() {
        let symbols = Symbols::default();
        let all = many(&symbols, 3 * FREED_MAX);
        all.chunks(100).for_each(|some| symbols.release(some.iter().copied()));
        assert!(symbols.reading().kept() <= FREED_MAX);
    }

    #[test]
    fn collecting_leaves_only_what_is_used_even_after_a_reader_was_in_the_way() {
        let symbols = Symbols::default();
        let kept = intern(&symbols, "kept");
        let all = many(&symbols, 24 * FREED_MAX);
        let full = symbols.bytes();
        let reading = symbols.reading();
        all.chunks(100).for_each(|some| symbols.release(some.iter().copied()));
        assert_eq!(reading.kept(), all.len() + 1, "a reader is waited for by nobody");
        drop(reading);
        assert!(symbols.has_garbage());
        symbols.collect();
        assert!(!symbols.has_garbage());
        assert_eq!((symbols.reading().kept(), symbols.reading().text(kept)), (1, "kept"));
        assert!(symbols.bytes() < full / 2, "{} of {full} bytes", symbols.bytes());
        let again = many(&symbols, 10);
        assert_eq!(symbols.reading().text(again[9]), "text 9");
        assert_eq!(intern(&symbols, "kept"), kept);
    }
}
