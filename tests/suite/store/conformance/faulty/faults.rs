//! What a store can get wrong, and which promise is made to notice it.

/// What the store gets wrong; each is what some store would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A long text is cut, as a column of a table with a length does.
    CutsLongTexts,
    /// A new document takes the place of one that has its id.
    CreateReplaces,
    /// The tombstones of a session that was not created are there.
    KeepsTombstonesWithoutSession,
    /// A tombstone that exists is replaced.
    ReplacesTombstones,
    NeverBeside,
    /// The first tombstone that exists keeps those after it from being stored.
    StopsAtATombstone,
    /// An update leaves out one of its fields.
    PartialUpdate,
    /// An update drops fields that the store knows nothing of.
    ForgetsUnknownFields,
    /// An update adds no field.
    NeverAdds,
    Upserts,
    UpdatesByIdAlone,
    /// An update that does not fit is half done.
    HalfDone,
    /// An update that finds everything as it is to be says that it found nothing.
    CountsModified,
    /// An array is equal to its elements, as it is to MongoDB's plain equality.
    ComparesElements,
    /// What is missing is equal to null.
    MissingIsNull,
    /// The end of a document is reported, whether there was one or not.
    DeleteAlwaysSaysTrue,
    DeletesByIdAlone,
    TakeLeavesTheDocument,
    DeleteAllTakesTombstones,
    DeleteAllStopsAtTen,
    DeleteAllDoesNotCount,
    LosesTouches,
    TouchSets,
    TouchesEverybody,
    TouchCreates,
    TouchRevives,
    /// Reads are answered by a copy that is one write behind.
    LoadLagsBehind,
    FindLagsBehind,
    FindsInTheOrderOfIds,
    FindsTheNewestFirst,
    IgnoresSkip,
    ZeroMeansUnlimited,
    /// No page is longer than a driver's first batch.
    EndsAfterABatch,
    CountsOneMore,
    CountsWithoutTheFilter,
    ListsTombstones,
    IndexesOnce,
    IndexesEmptyTheStore,
    /// Whether the id is free is asked before the document is stored.
    LooksThenCreates,
    /// A document is read, changed, and written back.
    ReadsThenWrites,
    TakesInTwoSteps,
    /// A take gives what it read before it deleted.
    TakesAnOldCopy,
    /// Numbers are equal only in one type.
    NumbersHaveTypes,
    /// A call of this kind answers before what it did is on the disk.
    AnswersBeforeTheDisk(Call),
    Panics,
    NeverAnswers,
    LoadsOneOfMany,
    /// A number is taken for a time.
    AgesOfNumbers,
    /// A revocation that exists keeps its time.
    RevokesOnce,
    /// A field that is to be the present time is left as it was.
    KnowsNoPresent,
    /// Times end after a driver's first batch.
    FollowsOneBatch,
    TellsNoDeletion,
    /// All that the filter chooses are deleted, however many they are.
    DeleteSomeDeletesAll,
    /// No step says that it is the last.
    DeleteSomeNeverEnds,
    /// Times are told of sessions alone.
    TellsNoEpoch,
}

/// Every fault that one running store can show, and the promise that it is made to break.
pub const FAULTS: [(Fault, &str); 56] = [
    (
        Fault::FollowsOneBatch,
        "times_gives_the_documents_asked_for",
    ),
    (
        Fault::DeleteSomeDeletesAll,
        "delete_some_deletes_no_more_than_its_limit",
    ),
    (
        Fault::DeleteSomeNeverEnds,
        "delete_some_deletes_no_more_than_its_limit",
    ),
    (Fault::TellsNoEpoch, "the_epoch_is_told_with_what_it_ends"),
    (
        Fault::TellsNoDeletion,
        "watch_tells_what_happens_in_its_order",
    ),
    (
        Fault::CutsLongTexts,
        "insert_stores_documents_as_they_were_given",
    ),
    (Fault::CreateReplaces, "insert_never_replaces_a_document"),
    (
        Fault::KeepsTombstonesWithoutSession,
        "insert_never_replaces_a_document",
    ),
    (
        Fault::ReplacesTombstones,
        "insert_leaves_a_tombstone_that_exists_as_it_is",
    ),
    (
        Fault::NeverBeside,
        "insert_leaves_a_tombstone_that_exists_as_it_is",
    ),
    (
        Fault::StopsAtATombstone,
        "insert_leaves_a_tombstone_that_exists_as_it_is",
    ),
    (
        Fault::PartialUpdate,
        "update_changes_the_named_fields_and_nothing_else",
    ),
    (
        Fault::ForgetsUnknownFields,
        "update_changes_the_named_fields_and_nothing_else",
    ),
    (Fault::NeverAdds, "update_adds_fields_that_were_missing"),
    (Fault::Upserts, "update_never_creates"),
    (Fault::UpdatesByIdAlone, "update_asks_its_whole_filter"),
    (Fault::HalfDone, "update_is_all_or_nothing"),
    (
        Fault::CountsModified,
        "update_that_changes_nothing_is_applied",
    ),
    (Fault::ComparesElements, "a_value_is_compared_whole"),
    (Fault::MissingIsNull, "a_value_is_compared_whole"),
    (
        Fault::DeleteAlwaysSaysTrue,
        "delete_deletes_one_document_once",
    ),
    (Fault::DeletesByIdAlone, "delete_asks_its_whole_filter"),
    (
        Fault::TakeLeavesTheDocument,
        "take_gives_the_document_as_it_was_at_its_end",
    ),
    (
        Fault::DeleteAllTakesTombstones,
        "delete_all_deletes_what_its_filter_chooses_and_no_more",
    ),
    (
        Fault::DeleteAllStopsAtTen,
        "delete_all_deletes_what_its_filter_chooses_and_no_more",
    ),
    (
        Fault::DeleteAllDoesNotCount,
        "delete_all_deletes_what_its_filter_chooses_and_no_more",
    ),
    (Fault::LosesTouches, "touch_moves_times_forward"),
    (Fault::TouchSets, "touch_never_moves_times_backward"),
    (Fault::TouchesEverybody, "touch_changes_nothing_else"),
    (Fault::TouchCreates, "touch_never_creates"),
    (Fault::TouchRevives, "touch_revives_no_expired_session"),
    (Fault::LoadLagsBehind, "reads_see_every_completed_write"),
    (Fault::FindLagsBehind, "reads_see_every_completed_write"),
    (
        Fault::FindsInTheOrderOfIds,
        "find_goes_by_created_and_then_by_id",
    ),
    (
        Fault::FindsTheNewestFirst,
        "find_goes_by_created_and_then_by_id",
    ),
    (Fault::IgnoresSkip, "find_gives_the_page_that_was_asked_for"),
    (
        Fault::ZeroMeansUnlimited,
        "find_gives_the_page_that_was_asked_for",
    ),
    (
        Fault::EndsAfterABatch,
        "find_gives_the_page_that_was_asked_for",
    ),
    (Fault::CountsOneMore, "count_counts_what_find_finds"),
    (
        Fault::CountsWithoutTheFilter,
        "count_counts_what_find_finds",
    ),
    (Fault::ListsTombstones, "tombstones_are_not_sessions"),
    (Fault::IndexesOnce, "indexes_can_be_ensured_again_and_again"),
    (
        Fault::IndexesEmptyTheStore,
        "indexes_can_be_ensured_again_and_again",
    ),
    (
        Fault::LooksThenCreates,
        "of_many_that_create_one_document_one_does",
    ),
    (
        Fault::ReadsThenWrites,
        "of_many_that_compare_and_set_one_wins",
    ),
    (Fault::ReadsThenWrites, "no_increment_is_lost"),
    (Fault::ReadsThenWrites, "no_push_is_lost"),
    (
        Fault::ReadsThenWrites,
        "writes_to_different_fields_never_meet",
    ),
    (
        Fault::ReadsThenWrites,
        "nothing_brings_a_deleted_document_back",
    ),
    (
        Fault::TakesInTwoSteps,
        "of_many_that_take_one_gets_the_document",
    ),
    (Fault::TakesAnOldCopy, "a_take_misses_no_applied_update"),
    (Fault::NumbersHaveTypes, "does_what_the_memory_store_does"),
    (
        Fault::LoadsOneOfMany,
        "load_many_gives_the_documents_asked_for",
    ),
    (Fault::AgesOfNumbers, "ages_go_by_the_clock_of_the_store"),
    (Fault::RevokesOnce, "put_revocation_sets_the_present_time"),
    (Fault::KnowsNoPresent, "update_sets_the_present_time"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Insert,
    Update,
    Delete,
    Take,
    DeleteAll,
    PutRevocation,
}
