//! Numbers, and what stands at each, in pages: a page goes back to the system when none of its numbers is used, as
//! what has a number cannot get another one.

use std::collections::BTreeSet;

/// Numbers of a page: so many that the C library has it from the system for itself.
const PAGE_LEN: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Numbers<T> {
    pages: Vec<Page<T>>,
    /// Pages with free numbers. The least is used first, so that numbers are short and the last pages become free.
    with_room: BTreeSet<usize>,
    used: usize,
    /// Elements in all pages.
    held: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// None, where no number is used.
    elements: Vec<T>,
    /// Of these, those whose numbers are free.
    free: Vec<u16>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), with_room: BTreeSet::new(), used: 0, held: 0 }
    }
}

impl<T> Numbers<T> {
    /// What stands at a number; if that is free, anything.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let (page, at) = split(number);
        self.pages.get(page)?.elements.get(at)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (page, at) = split(number);
        self.pages.get_mut(page)?.elements.get_mut(at)
    }

    /// Gives a number to an element.
    pub(super) fn add(&mut self, element: T) -> u32 {
        let number = self.with_room.first().copied().unwrap_or_else(|| self.add_page());
        let page = &mut self.pages[number];
        let at = match page.free.pop() {
            Some(at) => {
                page.elements[usize::from(at)] = element;
                usize::from(at)
            }
            None => {
                if page.elements.is_empty() && number > 0 {
                    page.elements.reserve_exact(PAGE_LEN);
                }
                page.elements.push(element);
                self.held += 1;
                page.elements.len() - 1
            }
        };
        if page.free.is_empty() && page.elements.len() == PAGE_LEN {
            self.with_room.remove(&number);
        }
        self.used += 1;
        (number * PAGE_LEN + at) as u32
    }

    fn add_page(&mut self) -> usize {
        let number = self.pages.len();
        self.pages.push(Page { elements: Vec::new(), free: Vec::new() });
        self.with_room.insert(number);
        number
    }

    /// Frees a number that is used.
    pub(super) fn free(&mut self, number: u32) {
        let (number, at) = split(number);
        let Some(page) = self.pages.get_mut(number) else { return };
        page.free.push(at as u16);
        self.with_room.insert(number);
        self.used -= 1;
        if page.free.len() == page.elements.len() {
            self.held -= page.elements.len();
            (page.elements, page.free) = Default::default();
        }
        while self.pages.last().is_some_and(|page| page.elements.is_empty()) {
            self.pages.pop();
            self.with_room.remove(&self.pages.len());
        }
    }

    /// All numbers that are used are less.
    pub(super) fn end(&self) -> u32 {
        (self.pages.len() * PAGE_LEN) as u32
    }

    /// How many are used.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Memory held, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        self.pages.capacity() * size_of::<Page<T>>() + self.held * size_of::<T>()
    }
}

#[inline]
fn split(number: u32) -> (usize, usize) {
    (number as usize / PAGE_LEN, number as usize % PAGE_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_element_and_the_least_page_is_used_first() {
        let mut numbers = Numbers::default();
        let all: Vec<u32> = (0..3 * PAGE_LEN).map(|element| numbers.add(element)).collect();
        assert!(all.iter().enumerate().all(|(element, number)| numbers.get(*number) == Some(&element)));
        let (low, high) = (all[7], all[2 * PAGE_LEN + 7]);
        numbers.free(high);
        numbers.free(low);
        assert_eq!([numbers.add(1), numbers.add(2)], [low, high]);
        assert_eq!((numbers.get(low), numbers.get(high)), (Some(&1), Some(&2)));
        assert_eq!(numbers.add(3), numbers.end() - PAGE_LEN as u32, "there was no room");
        assert_eq!(numbers.used(), all.len() + 1);
    }

    #[test]
    fn pages_of_which_no_number_is_used_are_given_back() {
        let mut numbers = Numbers::default();
        (0..3 * PAGE_LEN).for_each(|element| _ = numbers.add(element));
        let full = numbers.bytes();
        let page = PAGE_LEN as u32;
        (0..page).for_each(|number| numbers.free(number));
        assert_eq!(numbers.bytes(), full - PAGE_LEN * size_of::<usize>());
        assert_eq!((numbers.get(0), numbers.get(page)), (None, Some(&PAGE_LEN)));
        (page + 1..3 * page).for_each(|number| numbers.free(number));
        assert_eq!((numbers.end(), numbers.used()), (2 * page, 1));
        assert_eq!(numbers.add(5), 0);
        [0, page].into_iter().for_each(|number| numbers.free(number));
        assert_eq!((numbers.end(), numbers.used()), (0, 0));
        assert_eq!(numbers.add(6), 0);
    }
}
