/* The parts of a block that hold weights. What a linear layer is, levels.h has said before. */

typedef struct {
    Linear qkv;
    Linear output;
    Linear up;
    Linear down;
    Norm attention_norm;
    Norm norm;
} Layer;
