//! The demo's script: SQL, with what must be seen after each statement.

/// What somebody else does before a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client begins to log in with the secret, again and again.
    ClientComes,
    /// The client leaves.
    ClientLeaves,
    /// The role expires while the next rotation is under way.
    RoleExpires,
    /// The role is valid again.
    RoleIsValid,
}

/// The actions by their names in the script.
const ACTIONS: [(&str, Action); 4] = [
    ("client comes", Action::ClientComes),
    ("client leaves", Action::ClientLeaves),
    ("role expires", Action::RoleExpires),
    ("role is valid", Action::RoleIsValid),
];

/// One statement of the script.
#[derive(Debug, Default)]
pub struct Step {
    /// The comments before it, shown too.
    pub comments: Vec<String>,
    /// The statement, of one or more lines.
    pub statement: String,
    /// What happens before it, and is not shown.
    pub actions: Vec<Action>,
    /// The texts that its output must contain.
    facts: Vec<String>,
}

impl Step {
    /// What is wrong with `output`: each fact that is not in it, and an error that nobody expects.
    pub fn missing_from(&self, output: &str) -> Vec<String> {
        let mut missing: Vec<String> = self
            .facts
            .iter()
            .filter(|fact| !output.contains(fact.as_str()))
            .map(|fact| format!("  {}\n    did not answer: {fact}", self.statement))
            .collect();
        let error_expected = self.facts.iter().any(|fact| fact.starts_with("ERROR:"));
        if output.contains("ERROR:") && !error_expected {
            missing.push(format!("  {}\n    ended with an error", self.statement));
        }
        missing
    }
}

/// Steps are separated by empty lines. In each, lines with `-- ` are comments, lines with `--> ` are
/// facts, lines with `--! ` are actions, and the rest is the statement.
pub fn parse(text: &str) -> Vec<Step> {
    text.split("\n\n").map(parse_step).filter(|step| !step.statement.is_empty()).collect()
}

fn parse_step(block: &str) -> Step {
    let mut step = Step::default();
    let mut statement = Vec::new();
    for line in block.lines() {
        if let Some(fact) = line.strip_prefix("--> ") {
            step.facts.push(fact.to_owned());
        } else if let Some(action) = line.strip_prefix("--! ") {
            let known = ACTIONS.into_iter().find(|(name, _)| *name == action);
            step.actions.push(known.unwrap_or_else(|| panic!("no such action: {action}")).1);
        } else if line.starts_with("--") {
            step.comments.push(line.to_owned());
        } else {
            statement.push(line);
        }
    }
    step.statement = statement.join("\n");
    step
}
