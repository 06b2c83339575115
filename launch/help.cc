#include "launch/help.h"

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

struct CommandText {
  const char* name;
  const char* usage;    // follows the name
  const char* summary;  // one or two sentences, indented by six
  const char* details;  // options, followed by an example
};

constexpr char kConfigOptions[] =
    "  FILE, --config FILE      the configuration (protobuf text; angel-ptm init writes one, angel-ptm help fields "
    "lists\n"
    "                           all fields)\n"
    "  --set path.field=value   sets one field; may be repeated. Of a field that may be repeated, adds the value to "
    "those\n"
    "                           of the file; =[a, b] replaces them. Bytes may have a unit: 512MiB, 80GB\n";

constexpr CommandText kCommandTexts[] = {
    {"init", "NAME [--input TEXT] [--from DIR]",
     "      Writes NAME.textproto: a small or a released model's configuration, every field explained.",
     "  NAME                     of the run; its files go to runs/NAME\n"
     "  --input TEXT             text file or folder of text files to train on (default: text)\n"
     "  --from DIR               a HunYuanDenseV1 or HunYuanMoEV1 of transformers, with its tokenizer, to train on\n"
     "                           (default: a small model of its own)\n\n"
     "Example:\n"
     "  angel-ptm init story --input books/ && angel-ptm prepare story.textproto && angel-ptm train story.textproto\n"},
    {"prepare", "FILE [--set path.to.field=value]...",
     "      Text files -> tokenizer -> packed token files (data.prepare), or images with captions -> image files\n"
     "      (data.prepare.images). Prints statistics.",
     "@"
     "\nWrites data.directory; training reads nothing else.\n\n"
     "Example:\n"
     "  angel-ptm prepare launch/configs/quickstart.textproto\n"},
    {"plan",
     "FILE [--set ...] [--cluster FILE [--trace FILE | --find-largest-model [--scale depth|width] | --find-fastest]] "
     "[--ranks N] [--threads-per-rank N] [--isa LEVEL] [--graph] [--listing] | [--json]",
     "      What a run will need per rank and tier, what it will move and send, and how long it will take. Starts "
     "nothing.",
     "@"
     "  --cluster FILE           machines in numbers (launch/clusters, or what angel-ptm doctor wrote): budgets that "
     "the\n"
     "                           configuration leaves open are theirs, and the time of a step is predicted\n"
     "  --trace FILE             writes the predicted step for ui.perfetto.dev, in the form of a run's own trace\n"
     "  --find-largest-model     the largest model of this family that fits the cluster, by adding layers or, with\n"
     "                           --scale width, heads and features in proportion\n"
     "  --find-fastest           the micro-batch, ZeRO stage, expert degree, recomputation, prefetch and page size "
     "with\n"
     "                           the shortest predicted step\n"
     "  --ranks N                plan for so many ranks (default: communication.local_ranks, or all of the cluster)\n"
     "  --threads-per-rank N     of that machine: scratch memory depends on it (default: this machine's)\n"
     "  --isa LEVEL              instructions of the CPU kernels: portable, x86-64-v3, avx512, avx512-bf16 or amx\n"
     "                           (default: as train chooses on this machine)\n"
     "  --json                   exact numbers for programs, instead of the text\n"
     "  --graph                  prints the ops and tensors, too\n"
     "  --listing                prints every step of the plan, too\n\n"
     "Example:\n"
     "  angel-ptm plan launch/configs/hunyuan_7b.textproto --ranks 8 --set memory.device_bytes=80GB\n"},
    {"doctor",
     "[--out FILE] [--ranks N] [--threads-per-rank N] [--directory DIR [--allow-buffered]] [--seconds S] [--isa LEVEL]",
     "      Checks machines and measures their rates: a cluster file for plan. Under mpirun each process is a rank.",
     "  --out FILE               where to write the cluster file; without it, it is only measured\n"
     "  --ranks N                without mpirun: ranks, as threads, that compute at once; a plan with the file may "
     "have "
     "as many (default: 1)\n"
     "  --threads-per-rank N     of each (default: cores / ranks)\n"
     "  --directory DIR          measures files there, too, for plans with memory.nvme\n"
     "  --allow-buffered         where there is no direct I/O there, as memory.nvme.allow_buffered\n"
     "  --seconds S              of measuring, about (default: 50)\n"
     "  --isa LEVEL              instructions of the CPU kernels: portable, x86-64-v3, avx512, avx512-bf16 or amx\n"
     "                           (default: as train chooses on this machine)\n"
     "\nNothing else should use the machine meanwhile.\n\n"
     "Example:\n"
     "  angel-ptm doctor --ranks 2 --directory /tmp --out machine.textproto\n"
     "  mpirun -np 16 --map-by ppr:8:node angel-ptm doctor --out two_nodes.textproto\n"},
    {"train", "FILE [--set ...] [--resume | --resume-or-start | --resume-from STEP] [--cluster FILE] [--isa LEVEL]",
     "      Trains. Under mpirun each process is a rank; alone, communication.local_ranks threads are.",
     "@"
     "  --resume                 goes on from the newest checkpoint in output.directory\n"
     "  --resume-or-start        the same, or begins where there is none: for jobs that are queued again\n"
     "  --cluster FILE           by whose numbers recomputation is chosen where it is AUTO, as plan does with it\n"
     "  --resume-from STEP       goes on from that step's checkpoint; newer ones are moved to <output>/set-aside\n"
     "  --isa LEVEL              instructions of the CPU kernels: portable, x86-64-v3, avx512, avx512-bf16 or amx\n"
     "                           (default: the best that this machine runs; part of the numerics)\n"
     "\nCtrl-C, SIGTERM, SIGUSR1 or a closed terminal saves a checkpoint and ends the run; a second Ctrl-C ends it at "
     "once.\nmpirun kills its ranks a second or two after it got Ctrl-C or SIGTERM: send it SIGUSR1, which it passes "
     "on.\n"
     "\nExamples:\n"
     "  angel-ptm train story.textproto --set optimizer.adamw.learning_rate=3e-4\n"
     "  mpirun -np 2 --bind-to none angel-ptm train launch/configs/quickstart.textproto --resume\n"},
    {"encode",
     "--output FILE [--images DIR --autoencoder DIR [--conditions DIR]] [--clip DIR --t5 DIR [--captions FILE]] "
     "[--split "
     "train|validation] [--language NAME|all] "
     "[--posterior mean|sample] [--seed 1] [--clip-length 77] [--t5-length 256] [--cache DIR] "
     "[--text-compute FP32|BF16] [--device-bytes N] [--host-bytes N] [--nvme-directory DIR] [--isa LEVEL]",
     "      Makes what models of latents train on and sample with, by frozen encoders: latents of images, for\n"
     "      model.hunyuan_dit also states of captions, or both in one file.",
     "  --output FILE            a safetensors file: latents, scaled as models see them, and sizes; the "
     "texts'\n"
     "                           tensors, the empty caption's among them. model.dit with latents reads\n"
     "                           train-latents.safetensors and validation-latents.safetensors beside the images\n"
     "  --images DIR             a prepared set of images (angel-ptm prepare), or a folder of PNG and JPEG files of "
     "one\n"
     "                           size, taken by their names\n"
     "  --conditions DIR         poses or edges of the images in the same order, for model.hunyuan_dit.control (edges: "
     "prepare\n"
     "                           with data.prepare.images.edges)\n"
     "  --split NAME             of a prepared set: train or validation (default: train)\n"
     "  --language NAME          of a prepared set: in which an image's caption is, en or zh; all: an image once with "
     "each\n"
     "                           language that it has a caption in (default: the first of these)\n"
     "  --autoencoder DIR        a directory of diffusers' AutoencoderKL, or one with it in vae/\n"
     "  --posterior NAME         mean, or sample: a latent drawn by seed and number of the image (default: mean)\n"
     "  --seed N                 of samples (default: 1)\n"
     "  --clip DIR               a BertModel of transformers with its vocab.txt, or a pipeline of diffusers that has "
     "one\n"
     "  --t5 DIR                 a T5EncoderModel or MT5EncoderModel with its spiece.model, or such a pipeline\n"
     "  --captions FILE          .txt: a caption a line; .jsonl: \"text\" or \"caption\" of an object a line; an "
     "image's is in\n"
     "                           the place of the image (default: the first caption of each image of a prepared set)\n"
     "  --clip-length N          tokens of a text; what is longer is cut, and said (default: 77)\n"
     "  --t5-length N            likewise (default: 256)\n"
     "  --cache DIR              what encoders said before, by digest of encoder and input (default: FILE.cache)\n"
     "  --device-bytes N         budget of the device tier, as 2GiB: weights beyond it rest on the host (default: 0)\n"
     "  --host-bytes N           budget of the host tier (default: 0, none)\n"
     "  --nvme-directory DIR     where a file is for weights beyond both budgets; it is gone at the end\n"
     "  --text-compute TYPE      FP32 or BF16: what the text encoders' weights are held and computed in (default: "
     "FP32)\n"
     "  --isa LEVEL              instructions of the CPU kernels: portable, x86-64-v3, avx512, avx512-bf16 or amx\n"
     "                           (default: the best that this machine runs; part of the numerics)\n\n"
     "Example:\n"
     "  angel-ptm encode --images runs/stamps/data --autoencoder HunyuanDiT-v1.2 --clip HunyuanDiT-v1.2 --t5 "
     "HunyuanDiT-v1.2 \\\n"
     "    --output runs/stamps/train.safetensors\n"},
    {"generate",
     "--checkpoint DIR --prompt TEXT|--prompts FILE [--prompt ...] [--tokens 128] [--temperature 0.8] [--top-k 40] "
     "[--top-p 1] [--seed 1] [--weights last|ema] [--isa LEVEL] [--output FILE] [--steps 30] [--guidance 4] [--images "
     "1] "
     "[--negative-prompt TEXT] [--sampler NAME] [--autoencoder DIR] [--device-bytes N] [--host-bytes N] "
     "[--nvme-directory DIR]",
     "      Continues prompts, or makes images of them. DIR is a checkpoint or a run's output directory.",
     "  --checkpoint DIR         a checkpoint, or a run's output directory for its newest\n"
     "  --prompt TEXT            what to continue, a caption, or a class by name or number; may be repeated\n"
     "  --prompts FILE           more of them: .txt: one a line; .jsonl: \"prompt\" of an object a line, and its own "
     "\"seed\"\n"
     "                           or, of images, \"negative\", of latents \"size\", one for all prompts\n"
     "  --tokens N               tokens to add at most (default: 128)\n"
     "  --temperature X          0 takes the likeliest token, 1 the model's probabilities (default: 0.8)\n"
     "  --top-k N                draws from the N likeliest tokens; 0 from all (default: 40)\n"
     "  --top-p P                and of those from the likeliest that come to a probability of P (default: 1, all)\n"
     "  --seed N                 the same seed gives the same text or images (default: 1)\n"
     "  --weights last|ema       those of the last step, or their average (optimizer.ema_decay) (default: last)\n"
     "  --isa LEVEL              instructions of the CPU kernels: portable, x86-64-v3, avx512, avx512-bf16 or amx\n"
     "                           (default: the best that this machine runs; part of the numerics)\n"
     "  --device-bytes N         budget of the device tier, as 2GiB: weights beyond it rest on the host (default: 0)\n"
     "  --host-bytes N           budget of the host tier (default: 0, none)\n"
     "  --nvme-directory DIR     where a file is for weights beyond both budgets; it is gone at the end\n"
     "  --output FILE            also adds a JSON line for each prompt; angel-ptm report shows RUN/samples.jsonl\n"
     "Of models of images:\n"
     "  --output DIR             a PNG for each image, all on sheet.png, their prompts in samples.jsonl;\n"
     "                           angel-ptm report shows RUN/samples\n"
     "  --sampler NAME           euler for flows; ddpm, ddim or dpm-solver for other predictions\n"
     "                           (default: euler, dpm-solver)\n"
     "  --steps N                of the sampler (default: 30)\n"
     "  --expert DIR:FROM-TO     another checkpoint of the model, which denoises at times FROM to TO of 0, the image, "
     "to\n"
     "                           1000, noise; may be repeated\n"
     "  --guidance X             how strongly the prompt is followed; 1 is not guided (default: 4)\n"
     "  --images N               of each prompt (default: 1)\n"
     "  --negative-prompt TEXT   what to lead away from, of prompts without a \"negative\" (default: no prompt)\n"
     "Of models of latents:\n"
     "  --output FILE            a safetensors file with the latents, for the decoder of their autoencoder\n"
     "  --autoencoder DIR        decodes them: a PNG for each, sheet.png and samples.jsonl in FILE.images\n"
     "Of model.hunyuan_dit:\n"
     "  --prompt N               sample number N of the file of texts\n"
     "  --texts FILE             text states that were encoded elsewhere, as training reads them, without latents if\n"
     "                           there are none (default: the training samples, train.safetensors); of a model with\n"
     "                           model.hunyuan_dit.control it has the samples' conditions, too\n"
     "  --condition FILE         with --clip, --t5 and --autoencoder, of such a model: the image of a pose or of edges "
     "that\n"
     "                           all prompts have; or one for each prompt\n"
     "  --control-scale X        of what the condition's branch adds (default: 1)\n"
     "  --size HEIGHTxWIDTH      of the latents (default: the model's own size)\n"
     "  --negative-prompt N      likewise (default: the file's empty caption)\n"
     "  --clip DIR, --t5 DIR     text encoders, as of angel-ptm encode: then prompts are captions\n"
     "  --text-compute TYPE      FP32 or BF16: what their weights are held and computed in (default: FP32)\n"
     "  --cache DIR              of their states (default: FILE.texts.safetensors.cache)\n\n"
     "Example:\n"
     "  angel-ptm generate --checkpoint runs/story/train --prompt \"Once upon a time\" --tokens 64\n"},
    {"import",
     "FILE [--set ...] --from DIR --format huggingface|diffusers|checkpoint [--controlnet DIR] [--weights last|ema]",
     "      Writes the weights of a released model, or of another run, as the first checkpoint of a run, for train "
     "--resume.",
     "@"
     "  --from DIR               a HunYuanDenseV1 or HunYuanMoEV1 of transformers; or a HunyuanDiT2DModel of\n"
     "                           diffusers, or a pipeline with one in DIR/transformer; or a checkpoint of this "
     "program,\n"
     "                           or a run's output directory for its newest\n"
     "  --controlnet DIR         with model.hunyuan_dit.control: a HunyuanDiT2DControlNetModel, or a pipeline with one "
     "in\n"
     "                           DIR/controlnet, to go on with (default: a new branch, copied from the model)\n"
     "  --format NAME            huggingface of model.hunyuan_lm, diffusers of model.hunyuan_dit, checkpoint of any\n"
     "  --weights last|ema       of a checkpoint: those of the last step, or their average (default: last)\n\n"
     "Examples:\n"
     "  angel-ptm init tuned --input books/ --from Hunyuan-0.5B && angel-ptm prepare tuned.textproto &&\n"
     "    angel-ptm import tuned.textproto --from Hunyuan-0.5B --format huggingface &&\n"
     "    angel-ptm train tuned.textproto --resume\n"
     "  angel-ptm import launch/configs/hunyuan_dit_g2.textproto --from HunyuanDiT-v1.2 --format diffusers\n"
     "  angel-ptm import other_data.textproto --from runs/story/train --format checkpoint --weights ema\n"},
    {"export", "--checkpoint DIR --format huggingface|diffusers --output DIR [--base DIR] [--weights last|ema]",
     "      Writes a directory that transformers or diffusers loads, after reading it back and comparing.",
     "  --checkpoint DIR         a checkpoint, or a run's output directory for its newest\n"
     "  --format NAME            huggingface of model.hunyuan_lm, diffusers of model.hunyuan_dit\n"
     "  --output DIR             a folder that does not exist or is empty; gets the branch alone of a model with\n"
     "                           model.hunyuan_dit.control\n"
     "  --base DIR               another one, for the model that such a branch is of\n"
     "  --weights last|ema       those of the last step, or their average (optimizer.ema_decay) (default: last)\n\n"
     "Example:\n"
     "  angel-ptm export --checkpoint runs/story/train --format huggingface --output story-hf\n"},
    {"merge", "--checkpoint DIR --checkpoint DIR... --output DIR [--share X...] [--weights last|ema]",
     "      Writes a checkpoint whose weights are the mean of others', to sample from or to export.",
     "  --checkpoint DIR         a checkpoint, or a run's output directory for its newest; all of one model\n"
     "  --share X                of each checkpoint in order, of their sum (default: equal shares)\n"
     "  --output DIR             a folder without checkpoints; its checkpoints/ gets the new one\n"
     "  --weights last|ema       those of the last step, or their average (optimizer.ema_decay) (default: last)\n\n"
     "Example:\n"
     "  angel-ptm merge --checkpoint runs/a/checkpoints/step-00001000 --checkpoint runs/a/checkpoints/step-00002000 "
     "\\\n"
     "    --output runs/a-mean\n"},
    {"report",
     "RUN... [--output FILE] [--autoencoder DIR] [--device-bytes N] [--host-bytes N] [--nvme-directory DIR] [--isa "
     "LEVEL]",
     "      Writes one HTML file with the curves of runs, over each other, that needs no network.",
     "  RUN                      a run's output directory, also while the run goes on\n"
     "  --output FILE            what to write (default: RUN/report.html; report.html if there are several runs)\n"
     "  --autoencoder DIR        decodes the latents that runs have sampled (RUN/samples/step-N), which are images on "
     "the\n"
     "                           page then; --device-bytes and so on as of angel-ptm generate\n"
     "\nA run writes its own report.html every output.report_every_steps.\n\n"
     "Example:\n"
     "  angel-ptm report runs/story/train runs/other/train --output compared.html\n"},
    {"inspect", "DIR [--verify]", "      What a checkpoint holds; --verify checks every byte.",
     "  DIR                      a checkpoint, or a run's output directory for its newest\n"
     "  --verify                 reads everything and compares the checksums\n\n"
     "Example:\n"
     "  angel-ptm inspect runs/story/train --verify\n"},
    {"help", "[COMMAND | fields]",
     "      This text, a command's, or every configuration field with unit, default and advice.",
     "  COMMAND                  the same as angel-ptm COMMAND --help\n"
     "  fields                   every configuration field\n\n"
     "Example:\n"
     "  angel-ptm help train\n"},
};

}  // namespace

std::string GeneralHelp() {
  std::string text = "angel-ptm trains language and image models that do not fit their memory.\n\n";
  for (const CommandText& c : kCommandTexts) {
    absl::StrAppend(&text, "  angel-ptm ", c.name, " ", c.usage, "\n", c.summary, "\n");
  }
  absl::StrAppend(
      &text,
      "  angel-ptm COMMAND --help\n      A command's options, with an example.\n"
      "  angel-ptm --version\n      What was built, and the code that this machine runs.\n\n"
      "Where FILE stands, --config FILE is the same.\n\n"
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
