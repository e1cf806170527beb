//! What a transaction has done so far, subtransaction by subtransaction.

/// Items remembered at a nesting level, 1 being the transaction itself.
///
/// `ROLLBACK TO` and a PL/pgSQL exception block end a subtransaction by rolling it back: what was
/// remembered inside is dropped. `RELEASE` and the normal end of a block hand it to the parent.
#[derive(Debug)]
pub struct PendingStack<T> {
    items: Vec<(i32, T)>,
}

impl<T> PendingStack<T> {
    /// An empty one.
    pub const fn new() -> PendingStack<T> {
        PendingStack { items: Vec::new() }
    }

    /// Remembers an item at the current level.
    pub fn push(&mut self, level: i32, item: T) {
        self.items.push((level, item));
    }

    /// The subtransaction at `level` is rolled back.
    pub fn roll_back_to(&mut self, level: i32) {
        // Levels never decrease from the bottom up: `release` keeps it so.
        while self.items.pop_if(|(at, _)| *at >= level).is_some() {}
    }

    /// The subtransaction at `level` becomes part of its parent.
    pub fn release(&mut self, level: i32) {
        for (at, _) in self.items.iter_mut().rev().take_while(|(at, _)| *at >= level) {
            *at = level - 1;
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All items that still count, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|(_, item)| item)
    }

    /// Takes everything out, oldest first.
    pub fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.items).into_iter().map(|(_, item)| item).collect()
    }
}

impl<T> Default for PendingStack<T> {
    fn default() -> PendingStack<T> {
        PendingStack::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(stack: &PendingStack<&'static str>) -> Vec<&'static str> {
        stack.items.iter().map(|(_, item)| *item).collect()
    }

    #[test]
    fn a_rolled_back_subtransaction_is_forgotten() {
        let mut stack = PendingStack::new();
        stack.push(1, "a");
        stack.push(2, "b");
        stack.push(3, "c");
        stack.roll_back_to(3);
        assert_eq!(left(&stack), ["a", "b"]);
        stack.push(3, "d");
        stack.roll_back_to(2);
        assert_eq!(left(&stack), ["a"]);
        stack.roll_back_to(2);
        assert_eq!(left(&stack), ["a"]);
    }

    #[test]
    fn a_released_one_belongs_to_its_parent() {
        let mut stack = PendingStack::new();
        stack.push(1, "a");
        stack.push(3, "b");
        stack.release(3);
        // Another subtransaction at level 3 has nothing to do with "b".
        stack.push(3, "c");
        stack.roll_back_to(3);
        assert_eq!(left(&stack), ["a", "b"]);
        stack.roll_back_to(2);
        assert_eq!(left(&stack), ["a"]);
        stack.push(2, "d");
        stack.release(2);
        stack.roll_back_to(2);
        assert_eq!(stack.take(), ["a", "d"]);
        assert!(stack.is_empty());
    }
}
