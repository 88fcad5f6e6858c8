"""Configuration of a student whose shape no stock class expresses. Made by stillroom; Apache-2.0."""

from transformers import PretrainedConfig  # the name that transformers 4 knows too


class StillroomConfig(PretrainedConfig):
    """Shape of an encoder with a free head width, whose layers may differ.

    `num_attention_heads`, `head_width` and `intermediate_size` are a number where all layers agree, or a list
    with one number a layer. A layer without heads has no attention, one without neurons no feed-forward network.

    Args:
        family: The model type of the stock classes that compute the same function.
        position_counting: `from-zero`, or `after-padding`: over real tokens, from `pad_token_id` + 1.
        type_vocab_size: Rows of the token-type table; 0 for none.
        relative_attention_num_buckets: Rows of the relative attention bias that all layers share; 0 for none.
        has_pooler: Whether the checkpoint carries a pooler.
    """

    model_type = "stillroom"

    family: str = ""
    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int | list[int] = 12
    head_width: int | list[int] = 64
    intermediate_size: int | list[int] = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    max_position_embeddings: int = 512
    position_counting: str = "from-zero"
    type_vocab_size: int = 2
    relative_attention_num_buckets: int = 0
    relative_attention_max_distance: int = 128
    has_pooler: bool = True
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    tie_word_embeddings: bool = True

    def of_layer(self, name: str, index: int) -> int:
        """Return `num_attention_heads`, `head_width` or `intermediate_size` of one layer."""
        value = getattr(self, name)
        return int(value[index]) if isinstance(value, list | tuple) else int(value)


__all__ = ["StillroomConfig"]
