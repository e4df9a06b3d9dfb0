// The types that have native code, in the order of ggml's numbers. Included by frame.cpp, inside its namespace.

#define PUNA_ENCODER(type) bool encode_##type(const float *x, const float *weights, int64_t blocks, uint8_t *to);
#define PUNA_DECODER(type) void decode_##type(const uint8_t *from, int64_t blocks, float *to);

PUNA_ENCODER(f32)
PUNA_ENCODER(f16)
PUNA_ENCODER(bf16)
PUNA_ENCODER(q4_0)
PUNA_ENCODER(q4_1)
PUNA_ENCODER(q5_0)
PUNA_ENCODER(q5_1)
PUNA_ENCODER(q8_0)
PUNA_ENCODER(q2_k)
PUNA_ENCODER(q3_k)
PUNA_ENCODER(q4_k)
PUNA_ENCODER(q5_k)
PUNA_ENCODER(q6_k)

constexpr Codec codecs[] = {
    // name, weights and bytes of a block, by row, encoder, decoder
    {"F32", 1, 4, false, encode_f32, nullptr},
    {"F16", 1, 2, false, encode_f16, nullptr},
    {"BF16", 1, 2, false, encode_bf16, nullptr},
    {"Q4_0", 32, 18, true, encode_q4_0, nullptr},
    {"Q4_1", 32, 20, true, encode_q4_1, nullptr},
    {"Q5_0", 32, 22, true, encode_q5_0, nullptr},
    {"Q5_1", 32, 24, true, encode_q5_1, nullptr},
    {"Q8_0", 32, 34, false, encode_q8_0, nullptr},
    {"Q2_K", 256, 84, false, encode_q2_k, nullptr},
    {"Q3_K", 256, 110, false, encode_q3_k, nullptr},
    {"Q4_K", 256, 144, false, encode_q4_k, nullptr},
    {"Q5_K", 256, 176, false, encode_q5_k, nullptr},
    {"Q6_K", 256, 210, false, encode_q6_k, nullptr},
};
