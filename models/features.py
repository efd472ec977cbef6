"""What the ranker is told about a candidate: the columns of the feature matrix, in order.

Room: models, pure. `models.query` fills them, `models.ranker` reads them; the artefact's manifest carries the names,
and an artefact with other names is refused.
"""

from __future__ import annotations

FEATURES = (
    # from session neighbours
    "knn_share",  # vote / best vote of this query
    "knn_log",  # log1p(vote)
    "knn_last_share",  # votes of neighbours that hold the last item, / best such
    "knn_neighbours",  # log1p(number of neighbours that hold it)
    # from co-occurrence; the counts are shares of the session weights of the item clicked
    "forward_last",
    "next_last",
    "backward_last",
    "cosine_last",
    "forward_previous",
    "next_previous",
    "forward_share",  # decayed sum over the session / best of this query
    "forward_log",
    "cosine_best",  # best cosine with any item of the session
    # from item vectors
    "vector_session",
    "vector_last",
    # from the session's own earlier items
    "in_session",
    "age_inverse",  # 1 / clicks since it was clicked last, 1.0 = the last item
    "count_in_session",
    "followed_last",  # times it followed the last item earlier in this session
    "led_to_last",  # times it came right before the last item
    "first_age_inverse",
    # of the item
    "popularity_log",
    "recent_log",
    "velocity",  # log of its recent share / its share over all
    "returns",  # smoothed share of its sessions in which it came back
    "staleness",  # age of its newest session, as a share of all sessions
    # of the session, equal for all candidates
    "session_length_log",
    "session_unique_share",
    "last_popularity_log",
    "knn_best_log",
    "forward_best_log",
    # of the first fused order
    "fused",
    "fused_rank_inverse",
)
N_FEATURES = len(FEATURES)
FACTS = ("popularity_log", "recent_log", "velocity", "returns", "staleness")  # stored per item
