//! What a statement gives and what the client is told meanwhile.

use postgres::error::DbError;

/// What a client is told: everything of a report but where in the source it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub severity: String,
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub context: Option<String>,
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub datatype: Option<String>,
    pub constraint: Option<String>,
}

impl Told {
    pub fn from(error: &DbError) -> Self {
        let optional = |field: Option<&str>| field.map(str::to_owned);
        Self {
            severity: error.severity().to_owned(),
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: optional(error.detail()),
            hint: optional(error.hint()),
            context: optional(error.where_()),
            schema: optional(error.schema()),
            table: optional(error.table()),
            column: optional(error.column()),
            datatype: optional(error.datatype()),
            constraint: optional(error.constraint()),
        }
    }
}

/// What came of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub notices: Vec<Told>,
    pub columns: Vec<String>,
    pub result: Result<Vec<Vec<Option<String>>>, Told>,
}

impl Outcome {
    #[track_caller]
    pub fn rows(&self) -> Vec<Vec<Option<&str>>> {
        match &self.result {
            Ok(rows) => rows.iter().map(|row| row.iter().map(Option::as_deref).collect()).collect(),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// The one value.
    #[track_caller]
    pub fn value(&self) -> &str {
        match self.rows()[..] {
            [ref row] if row.len() == 1 => row[0].expect("a value, not NULL"),
            ref rows => panic!("not one value: {rows:?}"),
        }
    }

    #[track_caller]
    pub fn error(&self) -> &Told {
        self.result.as_ref().expect_err("the statement was expected to fail")
    }
}
