"""Models: factories `(input_shape, num_classes) -> keras.Model` of logits."""
