//! Lines of an order: Keap gives each an id, the row's new ones have none yet. A line's name is its numbered value.

use super::ValueNumber;

/// More lines than anybody adds: a ninth has been made twice.
pub(in crate::simulation) const LINES_MAX: usize = 8;

/// One line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::simulation) struct Line {
    /// Keap's id; 0 while it has none.
    pub id: u64,
    /// Its name.
    pub value: ValueNumber,
}

/// The lines of one order, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::simulation) struct Lines {
    held: [Line; LINES_MAX],
    count: usize,
    /// Lines for which there was no room.
    pub left_out: usize,
}

impl Lines {
    /// How many there are.
    pub(in crate::simulation) fn len(&self) -> usize {
        self.count
    }

    /// Each line.
    pub(in crate::simulation) fn iter(&self) -> impl Iterator<Item = &Line> {
        self.held.iter().take(self.count)
    }

    /// Adds a line.
    pub(in crate::simulation) fn push(&mut self, line: Line) {
        match self.held.get_mut(self.count) {
            Some(place) => {
                *place = line;
                self.count += 1;
            }
            None => self.left_out += 1,
        }
    }

    /// The line at a position, to be changed.
    pub(in crate::simulation) fn at_mut(&mut self, position: usize) -> Option<&mut Line> {
        self.held.get_mut(..self.count)?.get_mut(position)
    }

    /// The line of an id, to be changed.
    pub(in crate::simulation) fn of_id_mut(&mut self, id: u64) -> Option<&mut Line> {
        self.held.get_mut(..self.count)?.iter_mut().find(|line| line.id == id)
    }

    /// Keeps the lines that `is_kept` names.
    pub(in crate::simulation) fn retain(&mut self, is_kept: impl Fn(usize, &Line) -> bool) {
        let held = *self;
        *self = Self { left_out: held.left_out, ..Self::default() };
        held.iter().enumerate().filter(|(position, line)| is_kept(*position, line)).for_each(|(_, line)| {
            self.push(*line);
        });
    }

    /// The lines in order of id and name, to be compared.
    pub(in crate::simulation) fn sorted(&self) -> Vec<(u64, ValueNumber)> {
        let mut lines: Vec<(u64, ValueNumber)> = self.iter().map(|line| (line.id, line.value)).collect();
        lines.sort_unstable();
        lines
    }
}
