# Sourced by VideoPainter.sh and VideoPainterID.sh, after RUNS_NAME is known: what both trainings have in common.
# Every variable can be set from the environment; paths are seen from this folder.

: "${MODEL_PATH:=../ckpt/CogVideoX-5b-I2V}"
: "${CACHE_PATH:=$HOME/.cache}"
: "${DATASET_PATH:=../data/videovo/raw_video}"
: "${META_FILE_PATH:=../data/pexels_videovo_train_dataset.csv}"
: "${VAL_META_FILE_PATH:=../data/pexels_videovo_val_dataset.csv}"
: "${PROJECT_NAME:=pexels_videovo-inpainting}"
: "${OUTPUT_PATH:=./${PROJECT_NAME}/${RUNS_NAME}}"
: "${REPORT_TO:=wandb}"

RELEASE_FLAGS=(
  --pretrained_model_name_or_path "$MODEL_PATH"
  --cache_dir "$CACHE_PATH"
  --meta_file_path "$META_FILE_PATH"
  --val_meta_file_path "$VAL_META_FILE_PATH"
  --instance_data_root "$DATASET_PATH"
  --dataloader_num_workers 1
  --num_validation_videos 1
  --validation_epochs 1
  --seed 42
  --mixed_precision "$MIXED_PRECISION"
  --output_dir "$OUTPUT_PATH"
  --height 480
  --width 720
  --fps 8
  --max_num_frames 49
  --video_reshape_mode "resize"
  --skip_frames_start 0
  --skip_frames_end 0
  --branch_layer_num 2
  --train_batch_size 1
  --num_train_epochs 10
  --gradient_accumulation_steps 1
  --lr_scheduler cosine_with_restarts
  --lr_num_cycles 1
  --enable_slicing
  --enable_tiling
  --noised_image_dropout 0.05
  --gradient_checkpointing
  --optimizer AdamW
  --adam_beta1 0.9
  --adam_beta2 0.95
  --max_grad_norm 1.0
  --allow_tf32
  --report_to "$REPORT_TO"
  --tracker_name "$PROJECT_NAME"
  --runs_name "$RUNS_NAME"
  --inpainting_loss_weight 1.0
  --mix_train_ratio 0
  --first_frame_gt
  --mask_add
  --mask_transform_prob 0.3
  --p_brush 0.4
  --p_rect 0.1
  --p_ellipse 0.1
  --p_circle 0.1
  --p_random_brush 0.3
)
