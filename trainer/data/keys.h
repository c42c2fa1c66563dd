/* What keeps the random streams of this room apart under one seed. Changing a number changes every run's batches. */
#ifndef DATA_KEYS_H
#define DATA_KEYS_H

enum {
    DATA_KEY_SAMPLER = 0x5A,
    DATA_KEY_CROP = 0xA0,
    DATA_KEY_FLIP,
    DATA_KEY_SHIFT,
    DATA_KEY_ROTATE,
    DATA_KEY_ERASE,
    DATA_KEY_NOISE,
};

#endif
