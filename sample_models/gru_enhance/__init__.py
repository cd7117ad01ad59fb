"""Speech enhancement: STFT, convolutions and two GRU layers that estimate a mask, overlap-add back to a waveform."""
