"""Whether circles.py finds circles, of every kind that it says it finds, and nothing else."""

import tempfile
import unittest
from pathlib import Path

from circles import Crate, circles


def found(files):
    """The circles in a crate of these files, each as the set of its files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        crate = Crate(str(Path(folder, "lib.rs")))
        graph = {module: crate.imports(module) for module in crate.modules}
        return [
            {str(crate.modules[module].relative_to(folder)) for module in members} for members in circles(graph)
        ]


class Circles(unittest.TestCase):
    def test_two_files(self):
        for there, back in [
            ("use crate::b::B;", "use crate::a::A;"),
            ("use super::b::{self, B as C};", "use crate::{a::A, c::C};"),
            ("fn f() { crate::b::g() }", "fn g() { super::a::f() }"),
            ("use crate::b;\nfn f() { b::g() }", "use crate::{\n    a::*,\n};"),
            ("pub use crate::b::B;", "use super::a::A;"),
        ]:
            files = {"lib.rs": "mod a;\nmod b;\nmod c;", "a.rs": there, "b.rs": back, "c.rs": ""}
            self.assertEqual(found(files), [{"a.rs", "b.rs"}], (there, back))

    def test_a_long_one(self):
        files = {
            "lib.rs": "mod a;\npub mod b;\nmod c;",
            "a.rs": "use crate::b::B;",
            "b/mod.rs": "pub(crate) mod d;\nuse self::d::D;",
            "b/d.rs": "use crate::c::C;",
            "c.rs": "use crate::a::A;",
        }
        self.assertEqual(found(files), [{"a.rs", "b/mod.rs", "b/d.rs", "c.rs"}])

    def test_a_parent_and_its_child(self):
        files = {"lib.rs": "mod a;", "a.rs": "mod b;\nfn f() { b::g() }", "a/b.rs": "use super::f;"}
        self.assertEqual(found(files), [{"a.rs", "a/b.rs"}])

    def test_behind_a_name_that_is_handed_on(self):
        files = {
            "lib.rs": "mod a;\nmod b;\nmod c;",
            "a.rs": "use crate::c::B;",
            "b.rs": "use crate::a::A;\npub struct B;",
            "c.rs": "pub use crate::b::B;",
        }
        self.assertEqual(found(files), [{"a.rs", "b.rs"}])

    def test_what_is_none(self):
        files = {
            "lib.rs": "mod a;\nmod b;\npub use a::A;",
            "a.rs": "use crate::b::B;\nuse std::fmt;\nfn f() { other::g() }",
            "b.rs": """
                // use crate::a::A;
                const TEXT: &str = "crate::a::A";
                #[cfg(test)]
                mod tests {
                    use crate::a::A;
                }
            """.replace("\n                ", "\n"),
        }
        self.assertEqual(found(files), [])


if __name__ == "__main__":
    unittest.main()
