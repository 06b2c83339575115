#include "launch/help.h"

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

struct CommandText {
  const char* name;
  const char* usage;    // follows the name; further lines are indented by ten
  const char* summary;  // one or two sentences, indented by six
  const char* details;  // options, followed by an example
};

constexpr char kConfigOptions[] =
    "  FILE, --config FILE      the configuration, as protobuf text; angel-ptm init writes one, and angel-ptm help\n"
    "                           fields lists every field\n"
    "  --set path.field=value   sets one field; may be repeated. If the field is a repeated one, the value is\n"
    "                           added to those in the file; path.field=[a, b] replaces them. Byte counts may have\n"
    "                           a unit: 512MiB, 80GB\n";

constexpr CommandText kCommandTexts[] = {
    {"init", "NAME [--input TEXT] [--from DIR]",
     "      Writes NAME.textproto, the configuration of a small or a released model, with a comment on every field.",
     "  NAME                     the name of the run, whose files go to runs/NAME\n"
     "  --input TEXT             text file, or folder of text files, to train on (default: text)\n"
     "  --from DIR               released model to continue training: a HunYuanDenseV1 or HunYuanMoEV1 of\n"
     "                           transformers with its tokenizer (default: a new small model)\n\n"
     "Example:\n"
     "  angel-ptm init story --input books/ && angel-ptm prepare story.textproto && angel-ptm train story.textproto\n"},
    {"prepare", "FILE [--set path.to.field=value]...",
     "      Turns text files into a tokenizer and packed token files (data.prepare), or images with captions into\n"
     "      image files (data.prepare.images). Prints statistics.",
     "@"
     "\n"
     "Writes data.directory, which is all that training reads.\n\n"
     "Example:\n"
     "  angel-ptm prepare launch/configs/quickstart.textproto\n"},
    {"plan",
     "FILE [--set ...]\n"
     "          [--cluster FILE [--trace FILE | --find-largest-model [--scale depth|width] | --find-fastest]]\n"
     "          [--ranks N] [--threads-per-rank N] [--isa LEVEL] [--graph] [--listing] | [--json]",
     "      Shows the memory that a run will need per rank and tier, the data that it will move and send, and how\n"
     "      long it will take. Starts nothing.",
     "@"
     "  --cluster FILE           description of the machines (from launch/clusters, or written by angel-ptm\n"
     "                           doctor): gives the budgets that the configuration leaves open, and predicts the\n"
     "                           time of a step\n"
     "  --trace FILE             writes the predicted step for ui.perfetto.dev, in the same form as a run's own\n"
     "                           trace\n"
     "  --find-largest-model     finds the largest model of this family that fits the cluster, by adding layers or,\n"
     "                           with --scale width, by adding heads and features in proportion\n"
     "  --find-fastest           finds the micro-batch, ZeRO stage, expert degree, recomputation, prefetch and page\n"
     "                           size with the shortest predicted step\n"
     "  --ranks N                number of ranks to plan for (default: one for each device of the cluster; without\n"
     "                           --cluster, communication.local_ranks)\n"
     "  --threads-per-rank N     threads of each rank on the planned machine, on which scratch memory depends\n"
     "                           (default: the cluster's; without --cluster, numerics.threads_per_rank; where that\n"
     "                           is 0, this machine's cores / ranks)\n"
     "  --isa LEVEL              instruction set of the CPU kernels: portable, x86-64-v3, avx512, avx512-bf16 or\n"
     "                           amx (default: the one that train would choose on this machine)\n"
     "  --json                   prints exact numbers for programs instead of the text\n"
     "  --graph                  also prints the ops and tensors\n"
     "  --listing                also prints every step of the plan\n\n"
     "Example:\n"
     "  angel-ptm plan launch/configs/hunyuan_7b.textproto --ranks 8 --set memory.device_bytes=80GB\n"},
    {"doctor",
     "[--out FILE] [--ranks N] [--threads-per-rank N] [--directory DIR [--allow-buffered]]\n"
     "          [--seconds S] [--isa LEVEL]",
     "      Checks machines and measures their rates, for a cluster file that plan reads. Under mpirun, each\n"
     "      process is a rank.",
     "  --out FILE               cluster file to write (default: none; the rates are only printed)\n"
     "  --ranks N                without mpirun: number of ranks, as threads, that compute at the same time; a plan\n"
     "                           with the cluster file may have as many (default: 1)\n"
     "  --threads-per-rank N     threads of each rank (default: cores / ranks)\n"
     "  --directory DIR          also measures files in DIR, for plans with memory.nvme\n"
     "  --allow-buffered         accepts a DIR without direct I/O, as memory.nvme.allow_buffered does\n"
     "  --seconds S              approximate duration of the measurement (default: 50)\n"
     "  --isa LEVEL              instruction set of the CPU kernels: portable, x86-64-v3, avx512, avx512-bf16 or\n"
     "                           amx (default: the one that train would choose on this machine)\n\n"
     "Nothing else should use the machine during the measurement.\n\n"
     "Examples:\n"
     "  angel-ptm doctor --ranks 2 --directory /tmp --out machine.textproto\n"
     "  mpirun -np 16 --map-by ppr:8:node angel-ptm doctor --out two_nodes.textproto\n"},
    {"train",
     "FILE [--set ...] [--resume | --resume-or-start | --resume-from STEP]\n"
     "          [--cluster FILE] [--isa LEVEL]",
     "      Trains a model. Under mpirun, each process is a rank; otherwise, communication.local_ranks threads are.",
     "@"
     "  --resume                 continues from the newest checkpoint in output.directory\n"
     "  --resume-or-start        does the same, or starts afresh if there is no checkpoint; for jobs that are\n"
     "                           requeued\n"
     "  --resume-from STEP       continues from the checkpoint of STEP; newer ones are moved to <output>/set-aside\n"
     "  --cluster FILE           the cluster file by which recomputation is chosen where it is AUTO, as plan\n"
     "                           --cluster does\n"
     "  --isa LEVEL              instruction set of the CPU kernels: portable, x86-64-v3, avx512, avx512-bf16 or\n"
     "                           amx (default: the best that this machine runs). The choice is part of the numerics\n\n"
     "Ctrl-C, SIGTERM, SIGUSR1 or closing the terminal saves a checkpoint and ends the run; a second Ctrl-C ends it\n"
     "at once.\n"
     "mpirun kills its ranks a second or two after it receives Ctrl-C or SIGTERM, so send it SIGUSR1, which it\n"
     "forwards.\n\n"
     "Examples:\n"
     "  angel-ptm train story.textproto --set optimizer.adamw.learning_rate=3e-4\n"
     "  mpirun -np 2 --bind-to none angel-ptm train launch/configs/quickstart.textproto --resume\n"},
    {"encode",
     "--output FILE [--images DIR --autoencoder DIR [--conditions DIR]]\n"
     "          [--clip DIR --t5 DIR [--captions FILE]] [--split train|validation] [--language NAME|all]\n"
     "          [--posterior mean|sample] [--seed N] [--clip-length N] [--t5-length N] [--cache DIR]\n"
     "          [--text-compute FP32|BF16] [--device-bytes N] [--host-bytes N] [--nvme-directory DIR] [--isa LEVEL]",
     "      Runs frozen encoders to make what latent-space models train on and sample with: latents of images and,\n"
     "      for model.hunyuan_dit, states of captions, or both in one file.",
     "  --output FILE            safetensors file to write: latents, scaled as models see them, and image sizes;\n"
     "                           and the tensors of the texts, including those of the empty caption. model.dit with\n"
     "                           latents reads train-latents.safetensors and validation-latents.safetensors beside\n"
     "                           the images\n"
     "  --images DIR             a prepared set of images (angel-ptm prepare), or a folder of PNG and JPEG files\n"
     "                           that all have the same size, in the order of their names\n"
     "  --conditions DIR         poses or edges of the images, in the same order, for model.hunyuan_dit.control\n"
     "                           (for edges, prepare with data.prepare.images.edges)\n"
     "  --split NAME             which part of a prepared set: train or validation (default: train)\n"
     "  --language NAME          of a prepared set: the language of the images' captions, e.g. en or zh; all: each\n"
     "                           image once per language in which it has a caption (default: the first of these)\n"
     "  --autoencoder DIR        a directory of diffusers' AutoencoderKL, or one that has it in vae/\n"
     "  --posterior NAME         mean, or sample: a latent drawn from the posterior by the seed and the number of\n"
     "                           the image (default: mean)\n"
     "  --seed N                 seed of --posterior sample (default: 1)\n"
     "  --clip DIR               a BertModel of transformers with its vocab.txt, or a pipeline of diffusers that\n"
     "                           has one\n"
     "  --t5 DIR                 a T5EncoderModel or MT5EncoderModel with its spiece.model, or such a pipeline\n"
     "  --captions FILE          .txt with one caption per line, or .jsonl with one object per line that has the\n"
     "                           caption as \"text\" or \"caption\"; with --images, one for each image, in the order "
     "of\n"
     "                           the images (default: the first caption of each image of a prepared set)\n"
     "  --clip-length N          tokens per text; longer texts are cut, with a warning (default: 77)\n"
     "  --t5-length N            the same for T5 (default: 256)\n"
     "  --cache DIR              keeps the outputs of the encoders, by digest of encoder and input (default:\n"
     "                           FILE.cache)\n"
     "  --device-bytes N         budget of the device tier, such as 2GiB; weights beyond it stay on the host\n"
     "                           (default: 0, no budget)\n"
     "  --host-bytes N           budget of the host tier (default: 0, no budget)\n"
     "  --nvme-directory DIR     holds a file for the weights that exceed both budgets, which must be set; the file\n"
     "                           is removed at the end\n"
     "  --text-compute TYPE      FP32 or BF16: the type in which the text encoders hold their weights and compute\n"
     "                           (default: FP32)\n"
     "  --isa LEVEL              instruction set of the CPU kernels: portable, x86-64-v3, avx512, avx512-bf16 or\n"
     "                           amx (default: the best that this machine runs). The choice is part of the numerics\n\n"
     "Example:\n"
     "  angel-ptm encode --images runs/stamps/data --autoencoder HunyuanDiT-v1.2 --clip HunyuanDiT-v1.2 \\\n"
     "    --t5 HunyuanDiT-v1.2 --output runs/stamps/train.safetensors\n"},
    {"generate",
     "--checkpoint DIR --prompt TEXT|--prompts FILE [--prompt ...] [--tokens N]\n"
     "          [--temperature X] [--top-k N] [--top-p P] [--seed N] [--weights last|ema] [--output FILE]\n"
     "          [--steps N] [--guidance X] [--images N] [--negative-prompt TEXT] [--sampler NAME]\n"
     "          [--expert DIR:FROM-TO]... [--autoencoder DIR] [--texts FILE | --clip DIR --t5 DIR [--cache DIR]\n"
     "          [--text-compute FP32|BF16] [--condition FILE]...] [--control-scale X] [--size HEIGHTxWIDTH]\n"
     "          [--device-bytes N] [--host-bytes N] [--nvme-directory DIR] [--isa LEVEL]",
     "      Continues prompts with a language model, or makes images of them with an image model.",
     "  --checkpoint DIR         a checkpoint, or a run's output directory for its newest checkpoint\n"
     "  --prompt TEXT            text to continue, a caption, or a class by name or number; may be repeated\n"
     "  --prompts FILE           further prompts: .txt with one per line, or .jsonl with one object per line that\n"
     "                           has the prompt as \"prompt\" and may have its own \"seed\"; for images also its own\n"
     "                           \"negative\", and for latents \"size\", which must be the same for all prompts\n"
     "  --tokens N               maximum number of tokens to add (default: 128)\n"
     "  --temperature X          0 takes the likeliest token, 1 samples with the model's probabilities (default:\n"
     "                           0.8)\n"
     "  --top-k N                samples among the N likeliest tokens; 0 among all (default: 40)\n"
     "  --top-p P                of those, keeps the likeliest whose probabilities add up to P (default: 1, all)\n"
     "  --seed N                 the same seed gives the same text or images (default: 1)\n"
     "  --weights last|ema       the weights of the last step, or their average (optimizer.ema_decay) (default:\n"
     "                           last)\n"
     "  --isa LEVEL              instruction set of the CPU kernels: portable, x86-64-v3, avx512, avx512-bf16 or\n"
     "                           amx (default: the best that this machine runs). The choice is part of the numerics\n"
     "  --device-bytes N         budget of the device tier, such as 2GiB; weights beyond it stay on the host\n"
     "                           (default: 0, no budget)\n"
     "  --host-bytes N           budget of the host tier (default: 0, no budget)\n"
     "  --nvme-directory DIR     holds a file for the weights that exceed both budgets, which must be set; the file\n"
     "                           is removed at the end\n"
     "  --output FILE            also appends one JSON line per prompt; angel-ptm report shows RUN/samples.jsonl\n"
     "For image models:\n"
     "  --output DIR             folder for one PNG per image, sheet.png with all of them, and samples.jsonl with\n"
     "                           their prompts; angel-ptm report shows RUN/samples\n"
     "  --sampler NAME           euler for flows; ddpm, ddim or dpm-solver for other predictions (default: euler\n"
     "                           for flows, otherwise dpm-solver)\n"
     "  --steps N                number of sampling steps (default: 30)\n"
     "  --expert DIR:FROM-TO     another checkpoint of the model that denoises at times FROM to TO, where 0 is the\n"
     "                           image and 1000 is noise; may be repeated\n"
     "  --guidance X             how strongly the prompt is followed; 1 turns guidance off (default: 4)\n"
     "  --images N               number of images per prompt (default: 1)\n"
     "  --negative-prompt TEXT   what to steer away from, for prompts without their own \"negative\" (default: no\n"
     "                           prompt)\n"
     "For models of latents:\n"
     "  --output FILE            safetensors file for the latents, which the decoder of their autoencoder reads\n"
     "  --autoencoder DIR        also decodes the latents: one PNG each, sheet.png and samples.jsonl in FILE.images\n"
     "For model.hunyuan_dit:\n"
     "  --prompt N               number of a sample in the file of text states, from 0\n"
     "  --texts FILE             text states that were encoded elsewhere, in the form that training reads; latents\n"
     "                           are not needed (default: the training samples, train.safetensors). For a model\n"
     "                           with model.hunyuan_dit.control, the file also holds the samples' conditions\n"
     "  --condition FILE         with --clip, --t5 and --autoencoder, for a model with model.hunyuan_dit.control:\n"
     "                           image of a pose or of edges; one for all prompts, or one for each\n"
     "  --control-scale X        factor on what the branch for the condition adds (default: 1)\n"
     "  --size HEIGHTxWIDTH      size of the latents (default: the model's own)\n"
     "  --negative-prompt N      number of the sample to steer away from (default: the empty caption of the file)\n"
     "  --clip DIR, --t5 DIR     text encoders, as for angel-ptm encode; prompts are then captions\n"
     "  --text-compute TYPE      FP32 or BF16: the type in which these hold their weights and compute (default:\n"
     "                           FP32)\n"
     "  --cache DIR              keeps their outputs (default: FILE.texts.safetensors.cache)\n\n"
     "Example:\n"
     "  angel-ptm generate --checkpoint runs/story/train --prompt \"Once upon a time\" --tokens 64\n"},
    {"import",
     "FILE [--set ...] --from DIR --format huggingface|diffusers|checkpoint\n"
     "          [--controlnet DIR] [--weights last|ema]",
     "      Writes the weights of a released model, or of another run, as the first checkpoint of a run, which\n"
     "      train --resume continues.",
     "@"
     "  --from DIR               a HunYuanDenseV1 or HunYuanMoEV1 of transformers; a HunyuanDiT2DModel of\n"
     "                           diffusers, or a pipeline with one in DIR/transformer; or a checkpoint of this\n"
     "                           program, or a run's output directory for its newest checkpoint\n"
     "  --controlnet DIR         with model.hunyuan_dit.control: a HunyuanDiT2DControlNetModel to continue\n"
     "                           training, or a pipeline with one in DIR/controlnet (default: a new branch, copied\n"
     "                           from the model)\n"
     "  --format NAME            huggingface for model.hunyuan_lm, diffusers for model.hunyuan_dit, checkpoint for\n"
     "                           any model\n"
     "  --weights last|ema       with --format checkpoint: the weights of the last step, or their average (default:\n"
     "                           last)\n\n"
     "Examples:\n"
     "  angel-ptm init tuned --input books/ --from Hunyuan-0.5B && angel-ptm prepare tuned.textproto &&\n"
     "    angel-ptm import tuned.textproto --from Hunyuan-0.5B --format huggingface &&\n"
     "    angel-ptm train tuned.textproto --resume\n"
     "  angel-ptm import launch/configs/hunyuan_dit_g2.textproto --from HunyuanDiT-v1.2 --format diffusers\n"
     "  angel-ptm import other_data.textproto --from runs/story/train --format checkpoint --weights ema\n"},
    {"export",
     "--checkpoint DIR --format huggingface|diffusers --output DIR\n"
     "          [--base DIR] [--weights last|ema]",
     "      Writes a directory that transformers or diffusers loads, then reads it back and compares every tensor.",
     "  --checkpoint DIR         a checkpoint, or a run's output directory for its newest checkpoint\n"
     "  --format NAME            huggingface for model.hunyuan_lm, diffusers for model.hunyuan_dit\n"
     "  --output DIR             a folder that does not exist or is empty; for a model with\n"
     "                           model.hunyuan_dit.control, it receives the branch alone\n"
     "  --base DIR               another such folder, for the model to which that branch belongs\n"
     "  --weights last|ema       the weights of the last step, or their average (optimizer.ema_decay) (default:\n"
     "                           last)\n\n"
     "Example:\n"
     "  angel-ptm export --checkpoint runs/story/train --format huggingface --output story-hf\n"},
    {"merge", "--checkpoint DIR --checkpoint DIR... --output DIR [--share X...] [--weights last|ema]",
     "      Writes a checkpoint whose weights are the mean of those of other checkpoints, for sampling or export.",
     "  --checkpoint DIR         a checkpoint, or a run's output directory for its newest checkpoint; at least two,\n"
     "                           all of the same model\n"
     "  --share X                weight of each checkpoint in the mean, in the same order, relative to the sum of\n"
     "                           all shares (default: equal shares)\n"
     "  --output DIR             a folder without checkpoints; the new one goes to its checkpoints/\n"
     "  --weights last|ema       the weights of the last step, or their average (optimizer.ema_decay) (default:\n"
     "                           last)\n\n"
     "Example:\n"
     "  angel-ptm merge --checkpoint runs/a/checkpoints/step-00001000 \\\n"
     "    --checkpoint runs/a/checkpoints/step-00002000 --output runs/a-mean\n"},
    {"report",
     "RUN... [--output FILE]\n"
     "          [--autoencoder DIR [--device-bytes N] [--host-bytes N] [--nvme-directory DIR] [--isa LEVEL]]",
     "      Writes one HTML file that shows the curves of all given runs in the same plots and needs no network.",
     "  RUN                      a run's output directory; the run may still be in progress\n"
     "  --output FILE            file to write (default: RUN/report.html, or report.html if there are several runs)\n"
     "  --autoencoder DIR        decodes the latents that the runs have sampled (RUN/samples/step-N), so that the\n"
     "                           page shows them as images; --device-bytes and the options after it are as for\n"
     "                           angel-ptm generate\n\n"
     "A run writes its own report.html every output.report_every_steps steps.\n\n"
     "Example:\n"
     "  angel-ptm report runs/story/train runs/other/train --output compared.html\n"},
    {"inspect", "DIR [--verify]", "      Shows what a checkpoint holds; --verify checks every byte.",
     "  DIR                      a checkpoint, or a run's output directory for its newest checkpoint\n"
     "  --verify                 reads everything and compares the checksums\n\n"
     "Example:\n"
     "  angel-ptm inspect runs/story/train --verify\n"},
    {"help", "[COMMAND | fields]",
     "      Prints this text, the help of a command, or every configuration field with its unit, default and\n"
     "      advice.",
     "  COMMAND                  the same as angel-ptm COMMAND --help\n"
     "  fields                   every configuration field\n\n"
     "Example:\n"
     "  angel-ptm help train\n"},
};

}  // namespace

std::string GeneralHelp() {
  std::string text = "angel-ptm trains language and image models that do not fit in memory.\n\n";
  for (const CommandText& c : kCommandTexts) {
    absl::StrAppend(&text, "  angel-ptm ", c.name, " ", c.usage, "\n", c.summary, "\n");
  }
  absl::StrAppend(
      &text,
      "  angel-ptm COMMAND --help\n      Prints the options of a command, with an example.\n"
      "  angel-ptm --version\n      Prints what was built, and which kernels and matrix library this machine uses.\n\n"
      "A configuration FILE may also be given as --config FILE.\n\n"
      "Examples:\n"
      "  angel-ptm init story --input books/    # then: prepare, train, generate\n"
      "  angel-ptm prepare launch/configs/quickstart.textproto\n"
      "  mpirun -np 2 --bind-to none angel-ptm train launch/configs/quickstart.textproto\n"
      "  angel-ptm train launch/configs/quickstart.textproto --set optimizer.adamw.learning_rate=3e-4 --resume\n"
      "  angel-ptm plan launch/configs/hunyuan_7b.textproto --ranks 8 --set memory.device_bytes=80GB\n");
  return text;
}

std::string CommandHelp(const std::string& command) {
  for (const CommandText& c : kCommandTexts) {
    if (command != c.name) continue;
    const bool takes_config = c.details[0] == '@';
    return absl::StrCat("angel-ptm ", c.name, " ", c.usage, "\n", c.summary, "\n\n", takes_config ? kConfigOptions : "",
                        c.details + (takes_config ? 1 : 0));
  }
  return "";
}

std::vector<std::string> CommandNames() {
  std::vector<std::string> names;
  for (const CommandText& c : kCommandTexts) names.push_back(c.name);
  return names;
}

}  // namespace angel_ptm
