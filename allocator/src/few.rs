//! One or several of something, with an allocation of its own only for several.

/// Never empty.
#[derive(Debug)]
pub(crate) enum Few<T> {
    /// What there nearly always is.
    One(T),
    /// Several.
    Several(Vec<T>),
}

impl<T> Few<T> {
    /// All of them, in no order.
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }

    /// The same to be changed.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Several(several) => several,
        }
    }

    /// With this one as well.
    pub(crate) fn with(self, another: T) -> Self {
        match self {
            Self::One(one) => Self::Several(vec![one, another]),
            Self::Several(mut several) => {
                several.push(another);
                Self::Several(several)
            }
        }
    }

    /// Without the one at this place; None where there is no other. All stay where there is none at this place.
    pub(crate) fn without(self, at: usize) -> Option<Self> {
        match self {
            Self::One(one) => (at != 0).then_some(Self::One(one)),
            Self::Several(mut several) => {
                if at < several.len() {
                    several.swap_remove(at);
                }
                if several.len() > 1 { Some(Self::Several(several)) } else { several.pop().map(Self::One) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_and_go_one_by_one() {
        let few = Few::One('a').with('b').with('c');
        assert_eq!(few.as_slice(), ['a', 'b', 'c']);
        let few = few.without(7).unwrap().without(0).unwrap();
        assert_eq!(few.as_slice(), ['c', 'b']);
        let mut one = few.without(1).unwrap();
        assert!(matches!(one, Few::One('c')));
        one.as_mut_slice()[0] = 'd';
        assert_eq!(one.as_slice(), ['d']);
        assert!(one.without(0).is_none());
    }
}
